"""Tests that share a system (`calm`); `tests.support.schedule` keeps them on the same worker."""
