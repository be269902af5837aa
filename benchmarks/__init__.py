"""Benchmarks: what topsync does per second, compared with what the machine can do in the same run."""
