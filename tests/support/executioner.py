"""Lets a process die at named fail points, one after the other, and starts it again each time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL

from topsync.base.failpoints import Point
from topsync.local.arming import POINT_VARIABLE, REACHED_VARIABLE
from topsync.local.processes import ManagedProcess

WITHIN_SECONDS = 180.0
"""After this time a point counts as not reached. Some processes wait for others that die meanwhile."""

Start = Callable[[Mapping[str, str]], Awaitable[ManagedProcess]]
"""Starts the process with these variables in addition to its own."""


async def die_at_each(start: Start, points: Sequence[Point], folder: Path) -> None:
    """Start a process with the first point armed, wait until it dies there, start it with the next, ...

    Raises:
        AssertionError: it ended in another way, or never reached the point.
    """
    for point in points:
        reached = folder / f"{point}.reached"
        process = await start({POINT_VARIABLE: point, REACHED_VARIABLE: str(reached)})
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                status = await process.wait()
        except TimeoutError:
            raise AssertionError(f"{process} never reached {point}:\n{process.log_tail()}") from None
        assert status == -SIGKILL, f"{process} was to die at {point}:\n{process.log_tail()}"
        assert reached.read_text() == point
