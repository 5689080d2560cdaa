"""The tests; `make test` runs them on real servers."""
