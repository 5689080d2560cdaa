"""What a piece of SQL text may write."""
