"""Cached reads: sessions, entities, many rows at once, queries."""
