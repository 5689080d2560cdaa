"""Writes: from the statements of an engine to the ledger, and from its commits to Redis."""
