"""How far sweeps are apart, where the calls do not suffice for the wanted interval. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

NEARLY_ALL: Final = 0.95
"""The interval between sweeps is that of so many sellers: a seller that comes back was not swept for long."""

STRETCHED: Final = 1.2
SLACK: Final = timedelta(seconds=15)
"""An interval counts as stretched when it is longer than wanted by both: a pull takes a moment, too."""


def apart(since_last: Iterable[timedelta], wanted: timedelta) -> timedelta:
    """The interval between two sweeps of a seller, from how long ago each was pulled last; never shorter than
    wanted.
    """
    waits = sorted(since_last)
    return max(wanted, waits[int(len(waits) * NEARLY_ALL)] if waits else wanted)


def is_stretched(interval: timedelta, wanted: timedelta) -> bool:
    """Whether sweeps are farther apart than a pull's own time explains."""
    return interval > wanted * STRETCHED + SLACK
