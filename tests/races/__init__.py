"""Races staged by hand: each actor takes its step when the test says so."""
