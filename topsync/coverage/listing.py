"""Listing every order of a span by `modified`, without I/O: a generator asks, its caller brings the pages.

Why it is more than a loop over pages: the list is sorted by a value that changes while it is read.
Paging forwards loses orders, paging backwards loses them too as soon as the window is open or orders
become visible late (reference/top-api.md 3.2). So:

- Parts are listed oldest first. An order that is modified meanwhile only ever moves into a later part,
  which is still to come; with a last part that ends in the future, nothing can slip past.
- A part that fits one page is read whole by the counting call itself: one answer, no drift.
- A part that does not fit is halved; neighbours share their boundary second, because it is not
  documented whether the end is included.
- Only a part of a few seconds that still does not fit is paged, from behind the last page to the first,
  again and again until a pass brings nothing new.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas import platform_time
from topsync.coverage.spans import cut
from topsync.store.coverage import Span

MAX_PASSES = 8
"""Passes over one part that keep bringing new orders, before the listing fails rather than guesses."""

MAX_EXTRA_PAGES = 50
"""Pages behind the counted last one that may turn out not to be empty."""


class ListingFailedError(RuntimeError):
    """A part could not be read completely; nothing of it may be claimed. Ask again later."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How parts are cut and read."""

    page_size: int
    longest: timedelta
    shortest: timedelta
    """A part no longer than this is paged rather than halved."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page to be fetched. Times are closed bounds."""

    span: Span
    page_no: int
    counting: bool
    """Ask for the total (`use_has_next=false`) rather than for `has_next`."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it came."""

    asked_at: datetime
    """Server time, not later than the moment at which the platform made the answer."""
    total: int | None
    orders: Mapping[int, datetime]
    """`tid` to `modified`."""
    refused: bool = False
    """The platform found the window too wide: halve it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One completely listed part of the span."""

    span: Span
    asked_at: datetime
    orders: Mapping[int, datetime]


Listing = Generator[PageRequest, Page, list[Part]]


def list_span(span: Span, limits: Limits, *, now: datetime) -> Listing:
    """List all orders whose `modified` lies in `span`; give the parts, oldest first.

    `now` is server time: parts are cut below it, so that at most the last one reaches into the future.

    Raises:
        ListingFailedError: a part did not come to rest, or was refused although it cannot be halved.
    """
    done: list[Part] = []
    pending = cut(span, limits.longest)[::-1]
    while pending:
        part = pending.pop()
        first = yield PageRequest(part, 1, counting=True)
        fits = not first.refused and first.total is not None and first.total <= limits.page_size
        if fits:
            done.append(Part(part, first.asked_at, first.orders))
            continue
        halves = _halve(part, limits, now)
        if halves:
            pending.extend(reversed(halves))
        elif first.refused:
            raise ListingFailedError("the platform refuses even the shortest window")
        else:
            orders = yield from _page_until_stable(part, first, limits)
            done.append(Part(part, first.asked_at, orders))
    return done


def _halve(part: Span, limits: Limits, now: datetime) -> list[Span]:
    """The part in two halves that share a boundary second; none when it is too short for that."""
    past = Span(part.start, min(part.end, now))
    middle = platform_time.floor_to_second(past.start + (past.end - past.start) / 2)
    if past.end - past.start <= limits.shortest or not part.start < middle < part.end:
        return []
    return [Span(part.start, middle), Span(middle, part.end)]


def _page_until_stable(
    part: Span, first: Page, limits: Limits
) -> Generator[PageRequest, Page, dict[int, datetime]]:
    orders: dict[int, datetime] = dict(first.orders)
    total = first.total or 0
    for _ in range(MAX_PASSES):
        before = dict(orders)
        last = -(-total // limits.page_size)
        total = yield from _one_pass(part, last, orders)
        if orders == before:
            return orders
    raise ListingFailedError(f"a part still brought new orders after {MAX_PASSES} passes")


def _one_pass(part: Span, last: int, orders: dict[int, datetime]) -> Generator[PageRequest, Page, int]:
    """Read from behind the last page to the first; returns the total that the first page told."""
    behind = last + 1
    while (page := (yield PageRequest(part, behind, counting=False))).orders:
        _take(orders, page)
        behind += 1
        if behind > last + MAX_EXTRA_PAGES:
            raise ListingFailedError("the list keeps growing behind its last page")
    for page_no in range(last, 0, -1):
        page = yield PageRequest(part, page_no, counting=page_no == 1)
        _take(orders, page)
    return page.total or 0


def _take(orders: dict[int, datetime], page: Page) -> None:
    for tid, modified in page.orders.items():
        orders[tid] = max(modified, orders.get(tid, modified))
