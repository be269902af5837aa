"""Long runs that are not part of the tests: `make soak`."""
