"""The servers module, tried on real servers."""
