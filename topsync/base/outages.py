"""Work that goes on through outages of a server: a log line for each failure, and waits that grow."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from topsync.base import retry, telemetry
from topsync.base.service import Lifetime

log = telemetry.get_logger(__name__)

WAITS: Final = retry.Policy(first_wait_seconds=0.5, max_wait_seconds=10.0)
"""Long enough to leave a server in peace, short enough to go on soon after it is back."""

HEALTHY_SECONDS: Final = 30.0
"""When work has gone well for this long, the outage is over; the next failure begins a new outage."""


@dataclass(slots=True)
class Outage:
    """The failures in a row of something that is tried until it succeeds."""

    what: str
    """Names the work that cannot be done meanwhile, for the log."""
    failures: int = 0

    def failed(self, error: BaseException) -> float:
        """Note a failure. Returns the seconds to wait before the next attempt."""
        self.failures += 1
        wait_seconds = WAITS.wait_seconds(self.failures)
        log.warning(
            self.what, error=repr(error), failures=self.failures, again_in_seconds=round(wait_seconds, 1)
        )
        return wait_seconds

    def over(self) -> None:
        """Note a success."""
        self.failures = 0


async def go_on(
    work: Callable[[], Awaitable[object]],
    lifetime: Lifetime,
    *,
    errors: tuple[type[BaseException], ...],
    what: str,
) -> None:
    """Do `work` again and again until the process is asked to end, through every outage.

    `errors` are what an outage raises; anything else is a defect and passes through. `work` must be safe to
    repeat, and end by itself when the process is asked to.
    """
    outage = Outage(what)
    while not lifetime.stopping:
        began = time.monotonic()
        try:
            await work()
        except errors as error:
            if time.monotonic() - began > HEALTHY_SECONDS:
                outage.over()
            await lifetime.sleep(outage.failed(error))
        else:
            outage.over()
