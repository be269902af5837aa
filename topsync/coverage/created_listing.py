"""Listing all orders that were created in a span, without I/O: a generator asks, its caller brings the pages.

The list has the newest order first, by time of creation, and that time never changes
(docs/platform/gateway.md 3.1): orders keep their places. But while the list is read they come and go. New
orders enter at the front, late orders in the middle, some are hidden, the oldest fall out of the three
months. Whoever reads page after page by number loses an order as soon as an order of a former page goes,
because all that follows moves up (a generated counter-example is a test). So no page is asked for by its
number:

- Each question is for the first page of what is left, and what is left ends where the former page ended. A
  page has every order that was there when it was made and is newer than its last order. Whatever comes or
  goes in front of it moves nothing. So after each answer, all that stays in the list and is newer than that
  last order has been had; an order that is there from begin to end is lost by no coming and going.
- What is left ends a second after that last order. The page may not have had room for all orders of its last
  second, and it is not documented whether the end of a window is included.
- Only where two seconds hold more than a page, they are listed in pages that overlap, as
  `topsync.coverage.listing` lists a part that cannot be halved.
- `has_next` ends nothing, as it may be wrong. The reading ends with an answer whose total fits its own page.
- An answer may leave out orders in its middle. So there must be as many orders as the total that came with
  the first page. Where there are fewer, the part is counted once more: either orders have gone meanwhile, or
  the part is read again.
- A window that the platform finds too wide is halved. Parts may be read in any order, as no order moves from
  a part to another.
- An answer that equals the answer before it may be that answer once more. The question is repeated once.

What no reading can show is an order that the platform both leaves out of an answer and does not count, or
that takes the place of another in the count, because it appeared late during the same reading.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from schemas import platform_time
from topsync.coverage import listing
from topsync.coverage.listing import ListingFailedError, ListingLimits, Page, PageRequest
from topsync.coverage.spans import cut
from topsync.model.span import Span
from topsync.platforms.created_port import CreatedOrder, CreatedPage

MAX_READINGS = 4
"""Attempts to read as many orders of a part as the platform counts, before the listing fails."""

MAX_CONTRADICTIONS = 8
"""Answers that count more orders than they show, although they have room for them."""

SECOND = platform_time.RESOLUTION


@dataclass(frozen=True, slots=True)
class DatedPage:
    """A page as it came, and when it was asked for."""

    asked_at: datetime
    """Server time, not later than the moment at which the platform made the answer."""
    page: CreatedPage | None
    """None: the platform found the window too wide."""


R = TypeVar("R")
Steps = Generator[PageRequest, DatedPage, R]
CreatedOrders = dict[int, CreatedOrder]


def list_created(
    span: Span, *, page_size: int, longest: timedelta, most: int | None = None
) -> Steps[CreatedOrders | None]:
    """Every order that was created in the closed span and is in the list from begin to end of the reading.

    Orders that come or go meanwhile may be among them. An order that the list does not say the creation of
    counts as created in the span. None: the platform counts more than `most` orders; ask for less.

    Raises:
        ListingFailedError: the platform contradicts itself, or refuses even the shortest window. Nothing may
            be claimed.
    """
    asked = Span(span.start, span.end + SECOND)
    orders = yield from _without_repetitions(_read_all(asked, page_size, longest, most))
    if orders is None:
        return None
    return {
        tid: order
        for tid, order in orders.items()
        if order.created is None or span.start <= order.created <= span.end
    }


def _without_repetitions(steps: Steps[R]) -> Steps[R]:
    """The same reading, which does not take an answer for the answer to the next question as well."""
    former: CreatedPage | None = None
    try:
        request = next(steps)
        while True:
            dated = yield request
            if dated.page is not None and dated.page.orders and dated.page == former:
                dated = yield request
            former = dated.page
            request = steps.send(dated)
    except StopIteration as end:
        result: R = end.value
        return result


def _read_all(
    span: Span, page_size: int, longest: timedelta, most: int | None
) -> Steps[CreatedOrders | None]:
    orders: CreatedOrders = {}
    for part in cut(span, longest):
        first = yield from _ask(part, page_size, counting=True)
        if first is not None and most is not None and len(orders) + (first.total or 0) > most:
            return None
        orders |= yield from _read(part, first, page_size)
    return orders


def _read(part: Span, first: CreatedPage | None, page_size: int) -> Steps[CreatedOrders]:
    """The orders of a part, whose first page with its total is here already."""
    for _ in range(MAX_READINGS):
        if first is None:
            return (yield from _read_halves(part, page_size))
        orders = yield from _read_on(part, first, page_size)
        if (yield from _no_more_counted(part, first, orders, page_size)):
            return orders
        first = yield from _ask(part, page_size, counting=True)
    raise ListingFailedError("the platform counts more orders than it lists")


def _read_halves(part: Span, page_size: int) -> Steps[CreatedOrders]:
    middle = platform_time.floor_to_second(part.start + (part.end - part.start) / 2)
    if not part.start < middle < part.end:
        raise ListingFailedError("the platform refuses even the shortest window")
    orders: CreatedOrders = {}
    for half in (Span(middle, part.end), Span(part.start, middle)):
        first = yield from _ask(half, page_size, counting=True)
        orders |= yield from _read(half, first, page_size)
    return orders


def _read_on(part: Span, first: CreatedPage, page_size: int) -> Steps[CreatedOrders]:
    """The orders of a part, from its first page on: what is left becomes less with each page."""
    orders, end = dict(first.orders), part.end
    page, counted, contradictions = first, True, 0
    while page.total is None or page.total > len(page.orders):
        left = _end_of_what_is_left(page, end)
        if left < end:
            end, counted = left, _nears_the_end(page, page_size)
        elif not counted:
            counted = True
        elif len(page.orders) >= page_size:
            # All of the page lies within the last two seconds of what is left.
            orders |= yield from _read_crowded(Span(end - SECOND, end), page_size)
            end, counted = end - SECOND, False
            if end <= part.start:
                break
        else:
            contradictions += 1
            if contradictions > MAX_CONTRADICTIONS:
                raise ListingFailedError("the platform counts more orders than it lists")
        rest = Span(part.start, end)
        answer = yield from _ask(rest, page_size, counting=counted)
        if answer is None:
            return orders | (yield from _read_halves(rest, page_size))
        page = answer
        orders |= page.orders
    return orders


def _end_of_what_is_left(page: CreatedPage, end: datetime) -> datetime:
    """Where the window ends of all that may not have had room on a page of a window that ended at `end`."""
    times = _times(page.orders.values())
    if page.orders and not times:
        raise ListingFailedError("the list does not say when its orders were created")
    return min(times) + SECOND if times else end


def _nears_the_end(page: CreatedPage, page_size: int) -> bool:
    """Whether what follows a page is likely to fit a page, so that its total is worth asking for."""
    if page.total is not None:
        return page.total - len(page.orders) < page_size
    return not page.has_next or len(page.orders) < page_size


def _read_crowded(part: Span, page_size: int) -> Steps[CreatedOrders]:
    """The orders of two neighbouring seconds that hold more than a page."""
    orders: CreatedOrders = {}
    steps = listing.list_span(part, ListingLimits(page_size, SECOND, SECOND), now=part.end)
    try:
        request = next(steps)
        while True:
            dated = yield request
            page = dated.page or CreatedPage(None, None, {})
            orders |= page.orders
            places = {tid: order.created or part.start for tid, order in page.orders.items()}
            request = steps.send(Page(dated.asked_at, page.total, places, refused=dated.page is None))
    except StopIteration:
        return orders


def _no_more_counted(
    part: Span, first: CreatedPage, orders: Mapping[int, CreatedOrder], page_size: int
) -> Steps[bool]:
    """Whether the platform counted no more orders than were had, or does so now, because some have gone."""
    if first.total is None or first.total <= len(orders):
        return True
    times = _times(first.orders.values())
    # Without those that were created since.
    end = min(part.end, max(times) + SECOND) if times else part.end
    again = yield from _ask(Span(part.start, end), page_size, counting=True)
    return again is not None and again.total is not None and again.total <= len(orders)


def _ask(window: Span, page_size: int, *, counting: bool) -> Steps[CreatedPage | None]:
    """The first page of a window; None where the platform finds it too wide."""
    dated = yield PageRequest(window, 1, page_size, counting=counting)
    page = dated.page
    if page is not None:
        times = _times(page.orders.values())
        if times != sorted(times, reverse=True):
            raise ListingFailedError("the list is not sorted as it is read")
        if times and not window.start <= times[-1] <= times[0] <= window.end:
            raise ListingFailedError("the list holds orders that were not asked for")
    return page


def _times(orders: Iterable[CreatedOrder]) -> list[datetime]:
    """When orders were created, of those that say so."""
    return [order.created for order in orders if order.created is not None]
