"""A refetch: an order to be asked for again later, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from topsync.model.kind import Kind

NO_NEWS = "no_news"
"""The platform announced a change, but its detail still shows the state that we know."""

NOT_THERE = "not_there"
"""The platform does not know it, or not yet."""

DETAIL_BEHIND = "detail_behind"
"""The platform shows an older state than it has promised."""

INCOMPLETE_ANSWER = "incomplete_answer"
"""The answer leaves out what each of its kind has: fields disappear on peak days
(docs/platform/gateway.md 6.3)."""

UNREADABLE_ANSWER = "unreadable_answer"
"""The answer holds no such object."""

PLATFORM_UNAVAILABLE = "platform_unavailable"
"""The platform did not answer, although others were served."""

MODIFIED_AHEAD = "modified_ahead"
"""The platform shows a `modified` that lies ahead of its own time."""

UNREADABLE_SNAPSHOT = "unreadable_snapshot"
"""An export or a task holds the order in a form that cannot be read."""

NO_SESSION = "no_session"
"""The seller is paused, or its session was refused before."""

SESSION_REFUSED = "session_refused"
"""The platform refused the session, and there is no other session."""

PARKED = frozenset({NO_SESSION, SESSION_REFUSED})
"""The reasons that lie with the seller. The table's column `parked` depends on them, too."""

LINGERING = "lingering"
"""Messages wait for others of their order, and there is no other hint about it."""

BACKLOG = "backlog"
"""A writer was so far behind that it let the order wait and went on to fresh changes."""

IN_TASK = "in_task"
"""An order from a backlog that a task asks for, together with others."""

WAITING_IN_BACKLOG = frozenset({BACKLOG, IN_TASK})

LATE = "late"
"""An order from a backlog that is on its way to its writer; we ask for it again if it does not come."""


class OrderPart(NamedTuple):
    """Something that belongs to an order."""

    kind: Kind
    id: int


@dataclass(frozen=True, slots=True)
class Refetch:
    """An order to be asked for again. Times are platform time."""

    tid: int
    seller_id: int
    event: str
    occurred_at: datetime
    settled_after: datetime
    """Only a fetch that begins at or after this moment answers."""
    modified: datetime | None
    """The `modified` that the order is known to have reached; None when it is not known."""
    source: str
    reason: str
    """Why, as one of the words above."""
    answer: bytes | None = field(default=None, repr=False)
    """The whole of the last answer that could not be read."""
    attempts: int = 0
    """How often we have asked again, without the attempts while its seller was away."""
    parts: tuple[OrderPart, ...] = ()
    """Parts of the order to be asked for with it. An answer about the order settles them as well."""
    traceparent: str | None = None
    """The trace in which it goes on, as W3C Trace Context writes it; None where none is known."""

    @property
    def parked(self) -> bool:
        """Whether it waits, or waited, until its seller is back."""
        return self.reason in PARKED


@dataclass(frozen=True, slots=True)
class Lingering:
    """An order whose messages wait for others, until a moment of platform time."""

    order: Refetch
    """With `LINGERING`; `occurred_at` is the moment of its latest message."""
    until: datetime
