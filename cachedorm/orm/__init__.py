"""SQLAlchemy: from statements and flushes to keys and stamps."""
