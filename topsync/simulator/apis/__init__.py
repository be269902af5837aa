"""The methods of the simulated gateway, one module per family."""
