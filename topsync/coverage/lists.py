"""What the platform lists by `modified`, orders and refunds: how a page is asked for, and what it leads to.

`topsync.coverage.listing` knows how pages make a complete list; it is the same for both.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Literal

from schemas import platform_time
from schemas.change import Change
from topsync.base.clock import ServerClock
from topsync.base.settings import CoverageSettings
from topsync.coverage import listing
from topsync.coverage.listing import ListingFailedError, ListingLimits, Page, PageRequest, SpanPart
from topsync.model.listed import Listed
from topsync.model.priority import PRIORITY_OF
from topsync.model.span import Span
from topsync.platforms.taobao.calls import refunds as refund_calls
from topsync.platforms.taobao.calls import trades
from topsync.platforms.taobao.calls.paging import MAX_INCREMENT_SPAN
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    DroppedError,
    RequestRefusedError,
    RetryLaterError,
    WindowTooWideError,
)
from topsync.store import orders, refunds
from topsync.store.database import Pool

if TYPE_CHECKING:
    from topsync.coverage.pull import PullRequest

REACH_SECONDS = 60.0
"""How far beyond the present a listing "to now" asks, so that nothing modified meanwhile lies behind it."""

MAX_LISTINGS = 6
"""Listings "to now" that took longer than their reach, which doubles each time: half an hour at the end."""


@dataclass(slots=True)
class PlatformList(ABC):
    """One list of a seller, for one pull."""

    name: ClassVar[Literal["orders", "refunds"]]

    client: TopClient
    request: PullRequest
    longest: timedelta
    """The longest window that is asked for at once."""

    @abstractmethod
    async def page(self, wish: PageRequest) -> tuple[int | None, dict[int, datetime]]:
        """A page: the total, where it was asked for, and `modified` by id, in the list's order.

        Raises:
            TopError: the platform refused; WindowTooWideError asks for half the window.
        """

    @abstractmethod
    async def outstanding(self, pool: Pool, listed: Sequence[Listed], *, latest_now: datetime) -> set[int]:
        """Of what was listed, the ids of those not yet stored and published as listed.

        What is stored with a time ahead of `latest_now`, the latest that platform time can be, is not newer.
        """

    @abstractmethod
    def hint(self, listed: Listed, *, now: datetime) -> Change:
        """The hint that asks the writer for it."""


@dataclass(slots=True)
class OrderList(PlatformList):
    """`taobao.trades.sold.increment.get`."""

    name = "orders"

    async def page(self, wish: PageRequest) -> tuple[int | None, dict[int, datetime]]:
        """See the base."""
        page = await trades.increments(
            self.client,
            self.request.session,
            wish.span.start,
            wish.span.end,
            page_no=wish.page_no,
            page_size=wish.page_size,
            use_has_next=not wish.counting,
            priority=PRIORITY_OF[self.request.source],
        )
        return page.total, {trade.tid: trade.modified for trade in page.trades}

    async def outstanding(self, pool: Pool, listed: Sequence[Listed], *, latest_now: datetime) -> set[int]:
        """See the base."""
        return await orders.TABLE.outstanding(pool, listed, latest_now=latest_now)

    def hint(self, listed: Listed, *, now: datetime) -> Change:
        """See the base."""
        return Change(
            seller_id=self.request.seller_id,
            tid=listed.id,
            event="listed",
            occurred_at=listed.modified or listed.settled_after,
            settled_after=listed.settled_after,
            modified=listed.modified,
            received_at=now,
            source=self.request.source,
            reason=self.request.reason,
        )


@dataclass(slots=True)
class RefundList(PlatformList):
    """`taobao.refunds.receive.get`. A few among a hundred orders: its windows may be as long as a day."""

    name = "refunds"

    longest: timedelta = MAX_INCREMENT_SPAN
    _tid_of: dict[int, int] = field(default_factory=dict)

    async def page(self, wish: PageRequest) -> tuple[int | None, dict[int, datetime]]:
        """See the base."""
        page = await refund_calls.received(
            self.client,
            self.request.session,
            wish.span.start,
            wish.span.end,
            page_no=wish.page_no,
            page_size=wish.page_size,
            use_has_next=not wish.counting,
            priority=PRIORITY_OF[self.request.source],
        )
        self._tid_of |= {refund.refund_id: refund.tid for refund in page.refunds}
        return page.total, {refund.refund_id: refund.modified for refund in page.refunds}

    async def outstanding(self, pool: Pool, listed: Sequence[Listed], *, latest_now: datetime) -> set[int]:
        """See the base."""
        return await refunds.TABLE.outstanding(pool, listed, latest_now=latest_now)

    def hint(self, listed: Listed, *, now: datetime) -> Change:
        """See the base. Of the order it promises nothing: the orders' own list does."""
        return Change(
            seller_id=self.request.seller_id,
            tid=self._tid_of[listed.id],
            event="listed",
            occurred_at=listed.modified or listed.settled_after,
            settled_after=listed.settled_after,
            refund_id=listed.id,
            refund_modified=listed.modified,
            received_at=now,
            source=self.request.source,
            reason=self.request.reason,
        )

    async def may_fetch(self, pool: Pool, found: SpanListing, *, latest_now: datetime) -> bool:
        """Whether what is outstanding may be fetched at all: the right to the list is another one.

        Asks for one of them. Where only that one cannot be had, the writers will find out.

        Raises:
            TopError: the platform refuses the session, or asks for time.
        """
        missing = await self.outstanding(pool, list(found.wanted.values()), latest_now=latest_now)
        if missing:
            try:
                await refund_calls.get(
                    self.client, self.request.session, min(missing), priority=PRIORITY_OF[self.request.source]
                )
            except RequestRefusedError as error:
                return not refund_calls.refuses_all(error)
            except (DroppedError, RetryLaterError):
                pass
        return True


@dataclass(slots=True)
class SpanListing:
    """What one list of the platform holds of a span."""

    of: PlatformList
    parts: list[SpanPart]
    """Oldest first, without a break."""
    calls: int
    """What it took."""
    wanted: dict[int, Listed]
    """Everything once, by its id."""
    hinted: set[int] = field(default_factory=set)
    """Of these, what the writers were asked for."""


@dataclass(frozen=True, slots=True)
class Lister:
    """Brings the pages that a complete list asks for."""

    clock: ServerClock
    settings: CoverageSettings
    detail_lag: timedelta

    async def all_of(self, of: PlatformList, start: datetime) -> SpanListing:
        """List everything from `start` to the end that the pull asks for, or to now.

        Raises:
            ListingFailedError: see there.
            TopError: the platform refused.
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
            # What is modified after the end, while the answers were still coming, is in none of the parts.
            if of.request.end is not None or self.clock.latest_now() < span.end:
                return SpanListing(of, parts, calls_made, self._wanted(parts))
        raise ListingFailedError("listing takes longer than any reach beyond the present")

    async def _drive(self, of: PlatformList, span: Span, now: datetime) -> tuple[list[SpanPart], int]:
        limits = ListingLimits(
            page_size=self.settings.page_size,
            longest=of.longest,
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

    async def _fetch(self, of: PlatformList, wish: PageRequest) -> Page:
        asked_at = self.clock.now()
        try:
            total, listed = await of.page(wish)
        except WindowTooWideError:
            # The platform asks for rest first, and for less then (docs/platform/gateway.md 2.4).
            await asyncio.sleep(self.settings.too_wide_wait_seconds)
            return Page(asked_at, None, {}, refused=True)
        return Page(asked_at, total, listed)

    def _wanted(self, parts: Sequence[SpanPart]) -> dict[int, Listed]:
        """Everything listed once, as its last part lists it.

        A time that lies ahead promises nothing, or the pull would wait for it in vain. What the row says all
        the same: the order may have changed up to the moment at which it was asked for.
        """
        wanted: dict[int, Listed] = {}
        latest_now = self.clock.latest_now()
        for part in parts:
            for id_, modified in part.orders.items():
                settled = min(modified + platform_time.RESOLUTION, part.asked_at) + self.detail_lag
                wanted[id_] = Listed(id_, modified if modified <= latest_now else None, settled)
        return wanted


def _ceil_to_second(instant: datetime) -> datetime:
    floor = platform_time.floor_to_second(instant)
    return floor if floor == instant else floor + platform_time.RESOLUTION
