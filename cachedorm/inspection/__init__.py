"""Read-only access for the command line and dashboards: declarations, keys, stored values."""
