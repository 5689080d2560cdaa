"""SQL text: what it may write."""
