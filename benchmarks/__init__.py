"""Benchmarks: what topsync does a second, beside what is possible on the same machine in the same run."""
