"""A day of a seller that is compared with the platform, and what was seen of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from schemas import platform_time
from schemas.change import Source
from topsync.coverage.pull_request import PullRequest
from topsync.model.difference import Difference
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.sellers.sessions import Account
from topsync.verify.differences import Doubtful
from topsync.verify.rotation import DayTask


@dataclass(frozen=True, slots=True)
class ComparedDay:
    """A day of a seller, and for whom it is compared."""

    account: Account
    kind: Kind
    task: DayTask
    report: str
    night: date
    """Which sample is taken; the night's date, or an audit's."""
    source: Source

    @property
    def seller_id(self) -> int:
        """The seller."""
        return self.account.seller.seller_id

    @property
    def span(self) -> Span:
        """The day, half-open."""
        start = platform_time.start_of(self.task.day)
        return Span(start, platform_time.start_of(self.task.day + timedelta(days=1)))

    @property
    def request(self) -> PullRequest:
        """The day as a pull asks for it, closed."""
        return PullRequest(
            seller_id=self.seller_id,
            session=self.account.session,
            start=self.span.start,
            end=self.span.end,
            source=self.source,
            reason=f"report {self.report}",
        )


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What seemed to differ at the first look at a day's ids."""

    of: ComparedDay
    again_at: datetime
    """When it may be looked at again, by the platform's clock."""
    looked_at: datetime
    """Server time before the list was asked: what the platform changes from then on may be on its way."""
    candidates: Sequence[Doubtful]
    is_cut: bool
    """Whether there were more."""
    sample: Sequence[int]
    """Of what seemed to agree."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A difference, and what its repair must reach."""

    difference: Difference
    modified: datetime | None
    """The `modified` that the copy must have at least; None where any later fetch will do."""
    revision: int | None = None
    """Of a row that is wrong, the revision that was compared: it may hold something else than its hash says,
    and a fetch of what the hash says would not replace it. None where there is no row, or nothing is wrong in
    it."""
