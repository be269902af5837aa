"""List queries over one seller's orders: filter, sort, and page.

Newest first, by `created`, by `modified` or by arrival, ties by trade number descending
(docs/platform/gateway.md 3.1 to 3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from topsync.simulator.book import OrderBook
from topsync.simulator.life import TradeType

MAX_SCANNED_ORDERS = 50_000
"""To know a status, each order must be looked at; larger searches are refused as too slow."""


class TooSlowError(Exception):
    """The window holds too many orders to filter by status."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a list call asks for; times are seconds since the epoch, both ends included."""

    first: int
    last: int
    types: frozenset[TradeType]
    statuses: frozenset[str] | None = None
    oldest_created: int = 0
    """Orders created before this second are out of reach."""


class ListResult(NamedTuple):
    """A result before paging: the total, and a function from (offset, limit) to numbers, newest first."""

    total: int
    page: Callable[[int, int], list[int]]


def by_modified(book: OrderBook, query: Query, now: int) -> ListResult:
    """The orders whose visible `modified` lies in the window."""
    return _by(book, query, now, book.modified_between(query.first, query.last, now))


def _by(book: OrderBook, query: Query, now: int, found: list[tuple[int, int]]) -> ListResult:
    """The result for `found`, which holds (second, number); newest first."""
    history = book.history
    entries = [entry for entry in found if history.plan(entry[1]).type in query.types]
    if query.oldest_created:
        reachable = history.created_range(0, query.oldest_created - 1).stop
        entries = [entry for entry in entries if entry[1] >= reachable]
    # For one seller, trade numbers grow with the order's number.
    entries.sort(reverse=True)
    return _listed(_with_status(book, [number for _, number in entries], query, now))


def by_arrival(book: OrderBook, query: Query, now: int) -> ListResult:
    """The orders whose visible state reached the lists in the window (docs/platform/gateway.md 3.3)."""
    return _by(book, query, now, book.arrived_between(query.first, query.last, now))


def by_first_arrival(book: OrderBook, query: Query, now: int) -> ListResult:
    """The orders that reached the lists for the first time in the window, even if they changed later."""
    past = book.history.created_range(query.first, query.last)
    live = book.created_since_start(query.first - book.longest_delay, query.last, now)
    entries = ((book.first_arrived(number), number) for number in (*past, *live))
    return _by(book, query, now, [entry for entry in entries if query.first <= entry[0] <= query.last])


def by_created(book: OrderBook, query: Query, now: int) -> ListResult:
    """The orders created in the window that are visible."""
    first = max(query.first, query.oldest_created)
    history = book.history
    live = [
        number
        for number in book.created_since_start(first, query.last, now)
        if history.plan(number).type in query.types
    ]
    past = history.typed(history.created_range(first, query.last), query.types)
    if query.statuses is not None:
        if len(past) + len(live) > MAX_SCANNED_ORDERS:
            raise TooSlowError
        return _listed(_with_status(book, live + past.newest(0, len(past)), query, now))

    def page(offset: int, limit: int) -> list[int]:
        numbers = live[offset : offset + limit]
        missing = limit - len(numbers)
        return numbers + past.newest(max(0, offset - len(live)), missing)

    return ListResult(len(live) + len(past), page)


def _with_status(book: OrderBook, numbers: list[int], query: Query, now: int) -> list[int]:
    if query.statuses is None:
        return numbers
    if len(numbers) > MAX_SCANNED_ORDERS:
        raise TooSlowError
    return [number for number in numbers if _status(book, number, now) in query.statuses]


def _status(book: OrderBook, number: int, now: int) -> str:
    return book.brief_state(number, book.shown(number, now).events).status


def _listed(numbers: list[int]) -> ListResult:
    return ListResult(len(numbers), lambda offset, limit: numbers[offset : offset + limit])
