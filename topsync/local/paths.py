"""Paths within a checkout. Standard library only: the set-up uses it before anything is installed."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

LOCAL = CHECKOUT / ".local"
"""The folder for everything that is fetched or made on this machine, and nothing else; not tracked."""

KAFKA = LOCAL / "kafka"
RUNS = LOCAL / "run"
"""The parent of the folders of runs (see `run_folders`)."""
