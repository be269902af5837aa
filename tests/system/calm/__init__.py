"""Tests that share one system (`calm`); see `tests.support.schedule`, which keeps them together."""
