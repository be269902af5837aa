"""Arms a fail point (`topsync/base/failpoints.py`) from the environment, by two variables together:

- `TOPSYNC_FAIL_POINT`, a point, or `point:3` for the third time that it is reached;
- `TOPSYNC_FAIL_POINT_REACHED`, a file. The process writes the point's name to it before it dies, so that a
  test knows where it died.

A process that is given only one of the two refuses to start. They are no settings: nobody who runs topsync
should find them among those.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from topsync.base import failpoints
from topsync.base.errors import OperatorError
from topsync.base.failpoints import POINTS, Point

POINT_VARIABLE: Final = "TOPSYNC_FAIL_POINT"
REACHED_VARIABLE: Final = "TOPSYNC_FAIL_POINT_REACHED"


class FailPointError(OperatorError):
    """The environment names an unknown fail point, or sets only one of the two variables."""


class _Armed:
    def __init__(self, point: Point, times: int, reached: Path) -> None:
        self.point = point
        self.times = times
        self.reached = reached

    def __call__(self, point: Point) -> None:
        if self.point != point:
            return
        self.times -= 1
        if self.times <= 0:
            self.reached.write_text(point)
            os.kill(os.getpid(), signal.SIGKILL)


def arm(environment: Mapping[str, str]) -> None:
    """Arm the point that the environment names, if it names one. Called once, as a process starts.

    Raises:
        FailPointError: see there.
    """
    failpoints.on_reach(None)
    asked, reached = environment.get(POINT_VARIABLE), environment.get(REACHED_VARIABLE)
    if asked is None and reached is None:
        return
    if not asked or not reached:
        raise FailPointError(f"{POINT_VARIABLE} and {REACHED_VARIABLE} are for tests, and only together")
    name, _, times = asked.partition(":")
    point = next((point for point in POINTS if point == name), None)
    if point is None or not (times or "1").isdecimal():
        raise FailPointError(f"{POINT_VARIABLE}: no such point as {asked}; there are {', '.join(POINTS)}")
    failpoints.on_reach(_Armed(point, int(times or "1"), Path(reached)))
