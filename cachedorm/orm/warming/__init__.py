"""Warming: entries filled before they are read, in batches."""
