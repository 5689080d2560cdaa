"""One suite that every place for entries passes, from threads and from greenlets."""
