"""The command line, and what operators see and do with it."""
