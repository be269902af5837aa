"""The platform's clock in a process: set at its start, and kept from then on."""

from __future__ import annotations

import asyncio
import itertools

from topsync.base import starts, telemetry
from topsync.base.clock import ServerClock
from topsync.budget.errors import CallLimitedError
from topsync.platforms.port import PLATFORM_FAILURES, PlatformAwayError
from topsync.platforms.session_port import TimeSource

log = telemetry.get_logger(__name__)

REFINEMENTS = 8
"""Questions for the time after the first, each halving the uncertainty of a second: to about 4 ms."""

REFRESH_SECONDS = 60.0

AWAY = (PlatformAwayError, CallLimitedError)
"""What asking for the platform's time raises while the platform is away, or closed to us."""


async def set_at_start(source: TimeSource, server: str, *, waits: bool) -> None:
    """Ask for the platform's time. With `waits`, a platform that is away is waited for a little.

    `server` is what people call it.

    Raises:
        UnreachableError: the platform is away, or has closed itself to us.
    """
    await starts.reach(
        server,
        source.sync_clock,
        outages=AWAY,
        may_come=lambda error: waits and isinstance(error, PlatformAwayError),
    )


async def keep(source: TimeSource, clock: ServerClock) -> None:
    """Ask for the time again and again, until cancelled: at first to know it better, then against drift."""
    for number in itertools.count():
        await asyncio.sleep(clock.seconds_until_informative())
        if number >= REFINEMENTS:
            await asyncio.sleep(REFRESH_SECONDS)
        try:
            await source.sync_clock()
        except PLATFORM_FAILURES as error:
            log.warning("cannot ask for the platform's time; keeping the last", error=str(error))
