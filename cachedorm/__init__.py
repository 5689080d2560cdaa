"""The second-level cache for SQLAlchemy: cached reads that follow every commit."""
