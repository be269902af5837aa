"""Gaps, sweeps and replays: whatever push may have missed is pulled, and proven."""
