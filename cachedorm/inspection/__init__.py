"""What the command line and dashboards ask of a cache: declarations, keys, stored values."""
