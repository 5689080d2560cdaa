"""One module per framework; each needs that framework installed, and nothing here imports it."""
