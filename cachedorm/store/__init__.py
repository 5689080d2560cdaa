"""Redis: what one entry is, who may write it, and whether it is still valid."""
