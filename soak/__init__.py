"""Runs that take long and are no part of the tests: `make soak`."""
