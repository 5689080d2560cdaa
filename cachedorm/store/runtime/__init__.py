"""Threads, greenlets, forks and clocks."""
