"""What is asked of a pull."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from schemas.change import Source
from topsync.model.priority import PRIORITY_OF, Priority
from topsync.store.work_leases import WorkLease


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What to pull. Times are platform time."""

    seller_id: int
    session: SecretStr
    start: datetime
    end: datetime | None
    """None: up to now, which alone can prove anything. Otherwise a past moment."""
    source: Source
    reason: str
    parts_from: datetime | None = None
    """Since when to list the parts of orders, where that is before the start."""
    comes_again: bool = False
    """Whether such a pull comes again by itself, and may leave to the next what it does not claim.

    Gaps and bulk starts are pulled so that nothing may be missing afterwards, and so are replays.
    """

    lease: WorkLease | None = None
    """The seller's, where its pulls are leased: nothing is written once another process has it."""

    @property
    def priority(self) -> Priority:
        """The priority of its calls."""
        return PRIORITY_OF[self.source]
