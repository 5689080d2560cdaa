"""Programs that use cachedorm: the recycling app's demo, and the servers that demo and tests run on."""
