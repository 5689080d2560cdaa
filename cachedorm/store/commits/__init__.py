"""What a commit leaves to do when Redis cannot be reached or its outcome is unknown."""
