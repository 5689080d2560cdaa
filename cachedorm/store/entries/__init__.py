"""The entries of a region: looked up, filled once for all that miss, composed of others."""
