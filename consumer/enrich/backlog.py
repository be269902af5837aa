"""When a writer is so far behind that late changes have to wait, so that fresh changes need not. No I/O.

A writer reads its partition in order. After an outage thousands of changes wait, and a fetch for each takes
minutes in which every fresh change is late as well. So late changes are noted in `refetches`, at the speed
of the database; the reconciler has them fetched at the same time (`reconciler/backlogs.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(slots=True)
class Backlog:
    """Whether a partition's writer is behind; for a single reader, asked once for each batch in order."""

    changes: int
    """With this many unread records or more the writer is behind; 0: it never is."""
    fresh: timedelta
    """A change that has waited in the topic for this long at most is worth a fetch of its own at once."""
    is_behind: bool = False

    def late_before(self, received: Iterable[datetime], *, unread: int, now: datetime) -> datetime | None:
        """Changes that were received before this moment are to wait; None where all are fetched at once.

        `received` are the moments of a batch's changes, `unread` records stand behind them. Being behind ends
        with a batch in which nothing is late: by the count alone, the last changes of a backlog would hold up
        fresh changes once more.
        """
        limit = now - self.fresh
        if self.is_behind:
            self.is_behind = any(moment < limit for moment in received)
        else:
            self.is_behind = 0 < self.changes < unread
        return limit if self.is_behind else None
