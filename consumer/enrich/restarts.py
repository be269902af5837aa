"""What follows when a partition's writer fails: another take-over, or the end of the process. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiokafka.errors import KafkaError

from topsync.base import retry
from topsync.base.errors import leaves
from topsync.budget.errors import CallLimitedError
from topsync.platforms.port import PlatformAwayError
from topsync.store.database import OUTAGE_ERRORS
from topsync.store.versions import NotOwnerError
from topsync.stream.lookback import StalledError
from topsync.stream.producer import FencedError

MAX_FAILURES: Final = 20
"""Failures in a row; then the process ends. Outages of the database or platform never count."""

RESTART: Final = retry.Policy(max_attempts=MAX_FAILURES, first_wait_seconds=0.5, max_wait_seconds=15.0)

LONGEST_WAIT_SECONDS: Final = 60.0
"""If a ban lasts longer, the next attempt hears of it from the gate, without a call."""

HEALTHY_SECONDS: Final = 30.0
"""After a writer has worked for so long, failures are counted from zero."""

OUTAGES: Final = (PlatformAwayError, CallLimitedError, *OUTAGE_ERRORS)
"""Outages of the platform and of the database, and bans: no failure of ours."""

PASSING: Final = (*OUTAGES, KafkaError, StalledError, FencedError, NotOwnerError)
"""What another take-over can repair. Everything else is a defect, and ends the process."""


@dataclass(slots=True)
class Restarts:
    """The failures in a row of a partition's writer."""

    failures: int = 0
    outages: int = 0

    def wait_seconds(self, error: Exception, *, worked_seconds: float) -> float | None:
        """How long to wait before the next take-over; None: there is no next take-over, the process ends.

        Args:
            error: how the writer ended, alone or in a group.
            worked_seconds: for how long it worked before.
        """
        if worked_seconds > HEALTHY_SECONDS:
            self.failures = self.outages = 0
        if all(isinstance(leaf, OUTAGES) for leaf in leaves(error)):
            self.outages += 1
        else:
            self.failures += 1
        is_passing = all(isinstance(leaf, PASSING) for leaf in leaves(error))
        if not is_passing or self.failures >= MAX_FAILURES:
            return None
        banned_seconds = max(
            (leaf.wait_seconds for leaf in leaves(error) if isinstance(leaf, CallLimitedError)), default=0.0
        )
        if banned_seconds:
            return min(LONGEST_WAIT_SECONDS, banned_seconds)
        return RESTART.wait_seconds(self.failures + self.outages)


def is_shut_out(error: Exception) -> bool:
    """Whether Kafka or the table has refused the writer, as they do when there is another owner."""
    return any(isinstance(leaf, FencedError | NotOwnerError) for leaf in leaves(error))
