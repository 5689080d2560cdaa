"""The slots kept in this process, with the same contract as in Redis."""
