"""The platform's clock: starts wherever it is told to, runs at real speed, can be moved forward."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class PlatformClock:
    """UTC time of the simulated platform.

    It never goes back, whatever the machine's clock does. Moving it forward is how a test crosses midnight
    or reaches the next half hour without waiting; it wakes whoever waits for the time skipped.
    """

    def __init__(
        self, start_at: datetime | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin at `start_at` (aware), or at the machine's time when it is None."""
        self._start_at = (start_at or datetime.now(UTC)).astimezone(UTC)
        self._monotonic = monotonic
        self._started = monotonic()
        self._moved = timedelta(0)
        self._jump = asyncio.Event()

    def now(self) -> datetime:
        """The platform's time, as an aware UTC instant."""
        return self._start_at + self._moved + timedelta(seconds=self._monotonic() - self._started)

    def second(self) -> int:
        """The current second since the epoch: the finest the platform can tell."""
        return int(self.now().timestamp())

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError("the platform's clock does not go back")
        self._moved += timedelta(seconds=seconds)
        self._jump.set()
        self._jump = asyncio.Event()

    async def wait_until(self, second: float) -> None:
        """Return once the clock has reached a moment in seconds since the epoch."""
        while (remaining := second - self.now().timestamp()) > 0:
            jump = self._jump
            try:
                await asyncio.wait_for(jump.wait(), remaining)
            except TimeoutError:
                continue
