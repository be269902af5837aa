"""What the platform lists of a kind of a seller: how it is listed completely, and what it leads to.

`topsync.coverage.listing` knows how pages make a complete list; it is the same for every kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas import platform_time
from schemas.change import Change
from topsync.base.clock import ServerClock
from topsync.base.settings import CoverageSettings
from topsync.coverage import listing, settling, spans
from topsync.coverage.listing import ListingFailedError, ListingLimits, Page, PageRequest, SpanPart
from topsync.coverage.pull_request import PullRequest
from topsync.model import named
from topsync.model.calendar import Calendar
from topsync.model.kind import Kind
from topsync.model.listed import Listed
from topsync.model.named import Named
from topsync.model.span import Span
from topsync.platforms.port import ListAnswer, ListPage, Lists, Refused, WindowTooWide
from topsync.store.database import Pool
from topsync.store.version_tables import TABLES

REACH_SECONDS = 60.0
"""How far beyond the present a listing "to now" asks, so that nothing modified meanwhile lies behind it."""

MAX_LISTINGS = 6
"""Listings "to now" that took longer than their reach, which doubles each time: half an hour at the end."""


class ListRefusedError(RuntimeError):
    """The platform refuses a list: nothing of it can be claimed. The text says why, and holds no values.

    Attributes:
        whole_kind: whether it refuses the whole kind, and not this question alone.
    """

    def __init__(self, detail: str, *, whole_kind: bool) -> None:
        super().__init__(detail)
        self.whole_kind = whole_kind


@dataclass(slots=True)
class SellerList:
    """The list of a kind of a seller, for a single pull."""

    kind: Kind
    lists: Lists
    request: PullRequest
    longest: timedelta
    """The longest window that is asked for at once."""
    _order_of: dict[int, int] = field(default_factory=dict)
    """The order of each listed thing that is not an order itself."""

    async def page(self, wish: PageRequest) -> ListAnswer:
        """The platform's answer to the question for a page; raises what `Lists.list_page` raises."""
        answer = await self.lists.list_page(
            self.kind,
            self.request.session,
            wish.span,
            page_no=wish.page_no,
            page_size=wish.page_size,
            counting=wish.counting,
            priority=self.request.priority,
        )
        if isinstance(answer, ListPage):
            self._order_of.update(answer.order_of)
        return answer

    def order_of(self, id_: int) -> int:
        """The order of something that was listed: itself, where it is an order."""
        return id_ if self.kind.leads else self._order_of[id_]

    async def outstanding(self, pool: Pool, listed: Sequence[Listed], *, latest_now: datetime) -> set[int]:
        """Of what was listed, the ids of what is not yet stored and published as listed.

        What is stored with a time ahead of `latest_now`, the latest that platform time can be, is not newer.
        """
        return await TABLES[self.kind].outstanding(pool, listed, latest_now=latest_now)

    def hint(self, listed: Listed, *, now: datetime) -> Change:
        """The hint that asks the writer for it."""
        return hint(self.request, self.kind, listed, self.order_of(listed.id), now=now)


def hint(request: PullRequest, kind: Kind, listed: Listed, tid: int, *, now: datetime) -> Change:
    """The hint that asks the writer for an object, whose order is `tid`, as a pull does.

    A thing that is not an order itself promises nothing of its order: the orders' own list does that.
    """
    order = Change(
        seller_id=request.seller_id,
        tid=tid,
        event="listed",
        occurred_at=listed.modified or listed.settled_after,
        settled_after=listed.settled_after,
        received_at=now,
        source=request.source,
        reason=request.reason,
    )
    return named.naming(order, kind, Named(listed.id, listed.modified))


@dataclass(slots=True)
class SpanListing:
    """What a list of the platform holds of a span."""

    of: SellerList
    parts: list[SpanPart]
    """Oldest first, without a break."""
    proofs: list[Span | None]
    """What each part proves of this list."""
    calls: int
    """How many calls it took."""
    wanted: dict[int, Listed]
    """Everything that was listed, by its id."""
    answered_by: datetime
    """When all of it had surely been answered."""
    allowances: list[timedelta]
    """The visibility allowance of each part."""
    hinted: set[int] = field(default_factory=set)
    """Of these, what the writers were asked for."""


@dataclass(frozen=True, slots=True)
class Lister:
    """Brings the pages that a complete list asks for."""

    clock: ServerClock
    settings: CoverageSettings
    calendar: Callable[[], Calendar]
    detail_lag: timedelta
    learned: timedelta = timedelta(0)
    """The visibility allowance that was learnt."""

    async def all_of(self, of: SellerList, start: datetime) -> SpanListing:
        """List everything from `start` to the end that the pull asks for, or to now.

        Raises:
            ListingFailedError, ListRefusedError: see there.
            PlatformError, CallLimitedError: see `topsync.platforms.port.Lists`.
        """
        calls_made = 0
        for attempt in range(MAX_LISTINGS):
            reach = timedelta(seconds=REACH_SECONDS * 2**attempt)
            now = platform_time.floor_to_second(self.clock.now())
            end = _ceil_to_second(of.request.end or self.clock.latest_now() + reach)
            span = Span(platform_time.floor_to_second(start), end)
            if span.start >= span.end:
                raise ValueError("a pull ends after it begins")
            parts, made = await self._drive(of, span, now)
            calls_made += made
            # What is modified after the end, while the answers were still coming, is in no part.
            if of.request.end is not None or self.clock.latest_now() < span.end:
                return self._found(of, parts, calls_made)
        raise ListingFailedError("listing takes longer than any reach beyond the present")

    async def count(self, of: SellerList, span: Span) -> int | None:
        """How many objects the list holds that were changed last in a closed span of whole seconds. One call.

        It is not documented whether the end is included: what was changed in the last second may be missing.
        None: the platform does not say how many.

        Raises:
            ListRefusedError: see there.
            PlatformError, CallLimitedError: see `topsync.platforms.port.Lists`.
        """
        return (await self._fetch(of, PageRequest(span, 1, 1, counting=True))).total

    async def _drive(self, of: SellerList, span: Span, now: datetime) -> tuple[list[SpanPart], int]:
        rules = of.lists.rules(of.kind)
        limits = ListingLimits(
            page_size=min(self.settings.page_size, rules.max_page_size),
            longest=min(of.longest, rules.longest),
            shortest=timedelta(seconds=self.settings.min_window_seconds),
        )
        steps = listing.list_span(span, limits, now=now)
        calls_made = 0
        try:
            wish = next(steps)
            while True:
                page = await self._fetch(of, wish)
                calls_made += 1
                wish = steps.send(page)
        except StopIteration as end:
            parts: list[SpanPart] = end.value
            return parts, calls_made

    async def _fetch(self, of: SellerList, wish: PageRequest) -> Page:
        asked_at = self.clock.now()
        match await of.page(wish):
            case ListPage(total, modified):
                return Page(asked_at, total, modified)
            case WindowTooWide(needs_rest):
                if needs_rest:
                    await asyncio.sleep(self.settings.too_wide_wait_seconds)
                return Page(asked_at, None, {}, refused=True)
            case Refused(detail, whole_kind):
                raise ListRefusedError(detail, whole_kind=whole_kind)

    def _found(self, of: SellerList, parts: list[SpanPart], calls: int) -> SpanListing:
        answered_by, calendar = self.clock.latest_now(), self.calendar()
        allowances = [max(self.learned, calendar.visibility_allowance(part.asked_at)) for part in parts]
        proofs = [
            _proof(of.request, part, allowance) for part, allowance in zip(parts, allowances, strict=True)
        ]
        wanted = settling.wanted(
            parts,
            until=settling.proven_by(parts, proofs) if of.request.comes_again else None,
            detail_lag=self.detail_lag,
            latest_now=answered_by,
        )
        return SpanListing(of, parts, proofs, calls, wanted, answered_by, allowances)


def _proof(request: PullRequest, part: SpanPart, allowance: timedelta) -> Span | None:
    """What a listed part proves of its own list.

    Only a listing up to now proves: otherwise an order that was modified after its end, while it was listed,
    is in no part, and an older change of that order would be claimed unseen.
    """
    if request.end is not None:
        return None
    return spans.proof(part.span, asked_at=part.asked_at, visibility_allowance=allowance)


def _ceil_to_second(instant: datetime) -> datetime:
    floor = platform_time.floor_to_second(instant)
    return floor if floor == instant else floor + platform_time.RESOLUTION
