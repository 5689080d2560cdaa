"""Redis: the client, its connections and scripts, and the slots kept in it."""
