"""Benchmarks: method and results stand beside the code; nothing here is part of the test suite."""
