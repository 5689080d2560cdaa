"""What a cached query says, and what its answer depends on."""
