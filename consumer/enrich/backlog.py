"""When a writer is so far behind that late changes have to wait, so that fresh changes need not. No I/O.

A writer reads its partition in order. Behind an outage stand thousands of changes, and a fetch for each takes
minutes in which every fresh change is late as well. So late changes are noted in `refetches`, at the speed
of the database; the reconciler has them fetched beside (`reconciler/backlogs.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(slots=True)
class Backlog:
    """Whether one partition's writer is behind; for one reader, asked once for each batch in order."""

    changes: int
    """Unread records from which on it is behind; 0: it never is."""
    fresh: timedelta
    """A change that has waited in the topic no longer than this is worth a fetch of its own at once."""
    is_behind: bool = False

    def late_before(self, received: Iterable[datetime], *, unread: int, now: datetime) -> datetime | None:
        """Changes that were received before this moment are to wait; None where all are fetched at once.

        `received` are the moments of a batch's changes, `unread` records stand behind them. Being behind ends
        with a batch in which nothing is late: by the count alone, the last of a backlog would hold up what
        is fresh once more.
        """
        limit = now - self.fresh
        if self.is_behind:
            self.is_behind = any(moment < limit for moment in received)
        else:
            self.is_behind = 0 < self.changes < unread
        return limit if self.is_behind else None
