"""Programs that use cachedorm: the recycling app's demo, and the servers it runs on."""
