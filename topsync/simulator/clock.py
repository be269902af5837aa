"""The platform's clock: starts at any time, runs at real speed, can be moved forward."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from topsync.simulator.journal import no_report

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PER_SECOND = 1_000_000


class PlatformClock:
    """UTC time of the simulated platform.

    It never goes back, whatever the machine's clock does. A test moves it forward to cross midnight or to
    reach the next half hour without waiting; this wakes those who wait for the skipped time.
    """

    def __init__(
        self, start_at: datetime | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin at `start_at` (aware), or at the machine's time when it is None."""
        # Whole microseconds, not datetimes: every call asks for the second several times.
        self._start = ((start_at or datetime.now(UTC)) - _EPOCH) // _MICROSECOND
        self._monotonic = monotonic
        self._started = monotonic()
        self._jump = asyncio.Event()
        self.report = no_report
        """Called when the clock is moved."""

    @property
    def start_microseconds(self) -> int:
        """The platform's time at `started`, as if all jumps had been made by then."""
        return self._start

    @property
    def started(self) -> float:
        """The monotonic clock's value at the beginning."""
        return self._started

    @property
    def is_the_machines(self) -> bool:
        """Whether it uses the clock that all processes of the machine share."""
        return self._monotonic is time.monotonic

    @classmethod
    def like(cls, start_microseconds: int, started: float) -> PlatformClock:
        """The same clock in another process."""
        clock = cls()
        clock._start, clock._started = start_microseconds, started
        return clock

    def now(self) -> datetime:
        """The platform's time, as an aware UTC instant."""
        return _EPOCH + self._microseconds() * _MICROSECOND

    def second(self) -> int:
        """The current second since the epoch; the platform's times have no fractions."""
        return self._microseconds() // _PER_SECOND

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError("the platform's clock does not go back")
        self._start += round(seconds * _PER_SECOND)
        self.report("advance", seconds)
        self._jump.set()
        self._jump = asyncio.Event()

    async def wait_until(self, second: float) -> None:
        """Wait until the clock reaches a moment, in seconds since the epoch."""
        while (remaining := second - self.now().timestamp()) > 0:
            jump = self._jump
            try:
                await asyncio.wait_for(jump.wait(), remaining)
            except TimeoutError:
                continue

    def _microseconds(self) -> int:
        """Since the epoch."""
        return self._start + round((self._monotonic() - self._started) * _PER_SECOND)
