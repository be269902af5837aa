"""Listing every order of a span by `modified`, without I/O: a generator asks, its caller brings the pages.

Refunds are listed in the same way, which needs no more than this page says; "order" stands for both here.
The platform does not document how it sorts refunds (docs/platform/gateway.md 3.10). A list that fits one page
need not be sorted; a list that would have to be paged and is not newest first fails, and loses nothing.

Why it is more than a loop over pages: the list is sorted by a value that changes while it is read.
Paging forwards loses orders, paging backwards loses them too as soon as the window is open or orders
become visible late (docs/platform/gateway.md 3.2). So:

- Parts are listed oldest first. An order that is modified meanwhile only ever moves into a later part,
  which is still to come; with a last part that ends in the future, nothing can slip past.
- A part that fits one page is read whole by the counting call itself: one answer, no drift.
- A part that does not fit is halved; neighbours share their boundary second, because it is not
  documented whether the end is included.
- Only a part of a few seconds that still does not fit is paged, from its oldest order upwards, in pages
  that overlap. Two pages that share an unchanged order leave no order out between them, whatever has come
  and gone meanwhile; an order that is modified only moves up, to where the reading is still to come. Where
  two pages share no order, the part is read again.

Reading until a pass brings nothing new would be no proof: an order may appear late and be modified again
between two pages, push its neighbour over the border unseen, and do so in the last pass as well. In a part to
which a busy seller's changes keep coming, it would never end.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas import platform_time
from topsync.coverage.spans import cut
from topsync.model.span import Span

MAX_CLIMBS = 8
"""Attempts to page a part without a break, before the listing fails rather than guesses."""


class ListingFailedError(RuntimeError):
    """A part could not be read completely; nothing of it may be claimed. Ask again later."""


@dataclass(frozen=True, slots=True)
class ListingLimits:
    """How parts are cut and read."""

    page_size: int
    longest: timedelta
    shortest: timedelta
    """A part no longer than this is paged rather than halved."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page to be fetched. Times are closed bounds."""

    span: Span
    page_no: int
    page_size: int
    counting: bool
    """Ask for the total (`use_has_next=false`) rather than for `has_next`."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it came."""

    asked_at: datetime
    """Server time, not later than the moment at which the platform made the answer."""
    total: int | None
    orders: Mapping[int, datetime]
    """`tid` (of refunds, `refund_id`) to `modified`, in the list's order."""
    refused: bool = False
    """The platform found the window too wide: halve it."""


@dataclass(frozen=True, slots=True)
class SpanPart:
    """A completely listed part of the span."""

    span: Span
    asked_at: datetime
    orders: Mapping[int, datetime]


Listing = Generator[PageRequest, Page, list[SpanPart]]


def list_span(span: Span, limits: ListingLimits, *, now: datetime) -> Listing:
    """List all orders whose `modified` lies in `span`; give the parts, oldest first.

    `now` is server time: parts are cut below it, so that at most the last part reaches into the future.

    Raises:
        ListingFailedError: a part kept changing, or was refused although it cannot be halved.
    """
    done: list[SpanPart] = []
    for window in cut(span, limits.longest):
        pending = [window]
        while pending:
            part = pending.pop()
            first = yield PageRequest(part, 1, limits.page_size, counting=True)
            # A total that does not agree with the page may hide an order: ask for smaller windows instead.
            if not first.refused and first.total is not None and first.total <= len(first.orders):
                done.append(SpanPart(part, first.asked_at, first.orders))
                continue
            halves = _halve(part, limits, now)
            if halves:
                pending.extend(reversed(halves))
            else:
                orders = yield from _page(part, _answered(first), limits.page_size)
                done.append(SpanPart(part, first.asked_at, orders))
    return done


def _halve(part: Span, limits: ListingLimits, now: datetime) -> list[Span]:
    """The part in two halves that share a boundary second; None when it is too short for that."""
    past = Span(part.start, min(part.end, now))
    middle = platform_time.floor_to_second(past.start + (past.end - past.start) / 2)
    if past.end - past.start <= limits.shortest or not part.start < middle < part.end:
        return []
    return [Span(part.start, middle), Span(middle, part.end)]


def _page(part: Span, first: Page, page_size: int) -> Generator[PageRequest, Page, dict[int, datetime]]:
    counted = first
    for _ in range(MAX_CLIMBS):
        orders = yield from _climb(part, counted.total or 0, page_size)
        if orders is not None:
            return orders
        counted = _answered((yield PageRequest(part, 1, page_size, counting=True)))
    raise ListingFailedError(f"a part changed too quickly to be read, {MAX_CLIMBS} times")


def _climb(
    part: Span, total: int, page_size: int
) -> Generator[PageRequest, Page, dict[int, datetime] | None]:
    """Read from the list's end to its first order in overlapping pages; None when two did not overlap."""
    orders: dict[int, datetime] = {}
    below: Mapping[int, datetime] | None = None
    reached = max(total - 1, 0)
    while True:
        size, page_no = _page_around(reached, page_size)
        rank = (page_no - 1) * size
        if below is not None and rank >= reached:
            raise ListingFailedError(f"pages of {page_size} orders are too small to overlap")
        page = _answered((yield PageRequest(part, page_no, size, counting=False)))
        if not _is_newest_first(page):
            raise ListingFailedError("the list is not sorted as it is read")
        if not _joins(page, below, is_first=rank == 0, size=size):
            return None
        for tid, modified in page.orders.items():
            orders[tid] = max(modified, orders.get(tid, modified))
        if rank == 0:
            return orders
        below, reached = page.orders, rank


def _is_newest_first(page: Page) -> bool:
    """Whether what is modified while pages are read moves to a place that is read later."""
    return all(upper >= lower for upper, lower in itertools.pairwise(page.orders.values()))


def _joins(page: Page, below: Mapping[int, datetime] | None, *, is_first: bool, size: int) -> bool:
    """Whether nothing can lie between a page and the page read below it, or below the lowest page."""
    if below is None:
        return len(page.orders) < size and bool(page.orders or is_first)
    return not page.orders.items().isdisjoint(below.items())


def _page_around(rank: int, largest: int) -> tuple[int, int]:
    """Size and number of the page that holds a rank (from 0) with the most orders on both sides of it.

    This many may come or go above it between two reads before the pages no longer overlap.
    """

    def sides(size: int) -> tuple[int, int, int]:
        above, below = rank % size, size - 1 - rank % size
        return min(above, below), above, size

    size = max(range(1, largest + 1), key=sides)
    return size, rank // size + 1


def _answered(page: Page) -> Page:
    if page.refused:
        raise ListingFailedError("the platform refuses even the shortest window")
    return page
