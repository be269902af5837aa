"""The typed calls against the simulated platform, over HTTP."""
