"""What the database and its connections are: profile, catalogue, outcome of a commit."""
