"""Which keys and stamps a written row invalidates."""
