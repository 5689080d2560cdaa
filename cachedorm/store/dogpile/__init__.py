"""dogpile.cache over the protocol: the region, its backend and its mutex."""
