"""A refetch: an order to be asked for again later, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

NO_NEWS = "no_news"
"""The reason where the platform reported a change, and then showed what was known before."""

NOT_THERE = "not_there"
"""The reason where the platform does not know it, or not yet."""

DETAIL_BEHIND = "detail_behind"
"""The reason where the platform shows an older state than it has promised."""

INCOMPLETE_ANSWER = "incomplete_answer"
"""The reason where the answer leaves out what each of its kind has: fields disappear on peak days
(docs/platform/gateway.md 6.3)."""

UNREADABLE_ANSWER = "unreadable_answer"
"""The reason where the answer holds no such object."""

PLATFORM_UNAVAILABLE = "platform_unavailable"
"""The reason where the platform did not answer, although others were served."""

MODIFIED_AHEAD = "modified_ahead"
"""The reason where the platform shows a `modified` that lies ahead of its own time."""

NO_SESSION = "no_session"
"""The reason where the seller is paused, or its session was refused before."""

SESSION_REFUSED = "session_refused"
"""The reason where the platform refused the session, and there is no other."""

PARKED = frozenset({NO_SESSION, SESSION_REFUSED})
"""The reasons that lie with the seller; the table's column `parked` knows them, too."""

LINGERING = "lingering"
"""The reason where messages wait for others of their order, and nothing else is known of it."""

BACKLOG = "backlog"
"""The reason where a writer was so far behind that it let the order wait and went on to fresh changes."""

IN_TASK = "in_task"
"""The reason of one from a backlog that a task asks for, with others."""

WAITING_IN_BACKLOG = frozenset({BACKLOG, IN_TASK})

LATE = "late"
"""The reason of one from a backlog that is being brought: it is asked for again if it does not come."""


@dataclass(frozen=True, slots=True)
class Refetch:
    """One order to be asked for again. Times are platform time."""

    tid: int
    seller_id: int
    event: str
    occurred_at: datetime
    settled_after: datetime
    """Only a fetch that begins at or after this moment answers."""
    modified: datetime | None
    """The `modified` that the order is known to have reached; none where nobody has said."""
    source: str
    reason: str
    """Why, in a fixed word for counting."""
    answer: bytes | None = field(default=None, repr=False)
    """The last answer that could not be read, whole."""
    attempts: int = 0
    """How often it has been asked for again; not counted while its seller is away."""
    refund_ids: tuple[int, ...] = ()
    """Refunds of the order to be asked for with it: what answers, answers for them as well."""

    @property
    def parked(self) -> bool:
        """Whether it waits, or waited, for its seller to be back."""
        return self.reason in PARKED


@dataclass(frozen=True, slots=True)
class Lingering:
    """An order whose messages wait for others, until a moment of platform time."""

    order: Refetch
    """With `LINGERING`; `occurred_at` is the moment of its latest message."""
    until: datetime
