"""Long comparisons of what the cache answers with what the database answers."""
