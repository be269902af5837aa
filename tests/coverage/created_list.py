"""The platform's list by creation, with orders that come and go while it is read, and answers that are wrong.

Source of what it documents: docs/platform/gateway.md 3.1.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from topsync.coverage.created_listing import DatedPage, list_created
from topsync.coverage.listing import PageRequest
from topsync.model.span import Span
from topsync.platforms.created_port import CreatedOrder, CreatedPage

BASE = datetime(2025, 11, 20, tzinfo=UTC)
DAY_SECONDS = 60
"""The day that is listed is so long: what matters is how many orders a second has, and a page."""
LONGEST = timedelta(days=90)


def at(second: int) -> datetime:
    return BASE + timedelta(seconds=second)


def second_of(instant: datetime) -> int:
    return int((instant - BASE).total_seconds())


def span(first: int, last: int) -> Span:
    return Span(at(first), at(last))


DAY = span(0, DAY_SECONDS - 1)

Spoil = Callable[[PageRequest, CreatedPage], CreatedPage]
"""What is wrong with an answer."""


@dataclass
class CreatedList:
    """A seller's orders as the list shows them now."""

    orders: dict[int, int]
    """The second of creation of each order, by id."""
    end_included: bool = True
    shuffled: random.Random | None = None
    """Orders of the same second come in another order each time. None: by their ids."""
    widest: int | None = None
    """Longer windows, in seconds, are too wide."""
    stays: set[int] = field(default_factory=set)
    """What was there at the first question, and still is."""
    asked: list[PageRequest] = field(default_factory=list)
    next_tid: int = 10_000
    _former: CreatedPage | None = None

    def __post_init__(self) -> None:
        self.stays = set(self.orders)

    def create(self, second: int) -> None:
        """An order begins to be listed that was created at a second."""
        self.orders[self.next_tid] = second
        self.next_tid += 1

    def hide(self, choice: int) -> None:
        """An order goes, the newest for 0."""
        if self.orders:
            rows = self.rows(span(-DAY_SECONDS, 2 * DAY_SECONDS))
            _, tid = rows[choice % len(rows)]
            del self.orders[tid]
            self.stays.discard(tid)

    def expire(self, second: int) -> None:
        """What was created before a second falls out of the three months."""
        for tid in [tid for tid, created in self.orders.items() if created < second]:
            del self.orders[tid]
            self.stays.discard(tid)

    def rows(self, window: Span) -> list[tuple[int, int]]:
        """(created, tid) in the list's order."""
        start, end = second_of(window.start), second_of(window.end)
        inside = [
            (created, tid)
            for tid, created in self.orders.items()
            if start <= created < end or (self.end_included and created == end)
        ]
        if self.shuffled:
            self.shuffled.shuffle(inside)
            return sorted(inside, key=lambda row: -row[0])
        return sorted(inside, reverse=True)

    def true_page(self, request: PageRequest) -> CreatedPage:
        rows = self.rows(request.span)
        offset = (request.page_no - 1) * request.page_size
        shown = rows[offset : offset + request.page_size]
        return CreatedPage(
            total=len(rows) if request.counting else None,
            has_next=None if request.counting else offset + len(shown) < len(rows),
            orders={tid: CreatedOrder(at(created), at(created)) for created, tid in shown},
        )

    def answer(self, request: PageRequest, spoil: Spoil | None = None) -> DatedPage:
        self.asked.append(request)
        if self.widest is not None and request.span.end - request.span.start > timedelta(seconds=self.widest):
            return DatedPage(BASE, None)
        page = self.true_page(request)
        if spoil is repeated and self._former is not None:
            page = self._former
        elif spoil is not None:
            page = spoil(request, page)
        self._former = page
        return DatedPage(BASE, page)


def repeated(request: PageRequest, page: CreatedPage) -> CreatedPage:
    """The answer to the question before comes once more."""
    return page


def has_next_is_wrong(request: PageRequest, page: CreatedPage) -> CreatedPage:
    return page if page.has_next is None else replace(page, has_next=not page.has_next)


def cut_short(request: PageRequest, page: CreatedPage) -> CreatedPage:
    """The page ends before it is full."""
    return replace(page, orders=dict(list(page.orders.items())[: len(page.orders) // 2]))


def silent_about_creation(request: PageRequest, page: CreatedPage) -> CreatedPage:
    """Every other row does not say when its order was created."""
    return replace(
        page,
        orders={
            tid: replace(order, created=None) if number % 2 else order
            for number, (tid, order) in enumerate(page.orders.items())
        },
    )


Moment = Callable[[CreatedList], None]
"""What happens between an answer and the next."""


def quiet(_: CreatedList) -> None:
    """Nothing happens."""


def created(second: int) -> Moment:
    return lambda platform: platform.create(second)


def gone(choice: int) -> Moment:
    return lambda platform: platform.hide(choice)


def expired(second: int) -> Moment:
    return lambda platform: platform.expire(second)


def all_of(moments: Sequence[Moment]) -> Moment:
    def happen(platform: CreatedList) -> None:
        for moment in moments:
            moment(platform)

    return happen


@st.composite
def created_lists(draw: st.DrawFn, *, busiest: int = 80) -> CreatedList:
    """A list with some orders, often many of them in a few seconds."""
    crowded = draw(st.integers(0, DAY_SECONDS - 1))
    second = st.one_of(
        st.integers(0, DAY_SECONDS - 1),
        st.integers(crowded, min(crowded + 2, DAY_SECONDS - 1)),
        st.integers(-2, DAY_SECONDS + 1),
    )
    seconds = draw(st.lists(second, min_size=draw(st.sampled_from([0, busiest // 2])), max_size=busiest))
    return CreatedList(
        {100 + number: second for number, second in enumerate(seconds)}, end_included=draw(st.booleans())
    )


def moments() -> st.SearchStrategy[list[Moment]]:
    second = st.integers(-1, DAY_SECONDS)
    moment: st.SearchStrategy[Moment] = st.one_of(
        st.just(quiet),
        st.builds(created, second),
        st.builds(created, st.just(DAY_SECONDS - 1)),
        st.builds(gone, st.integers(0, 60)),
        st.builds(expired, st.integers(0, DAY_SECONDS)),
    )
    happens = st.one_of(moment, st.lists(moment, max_size=4).map(all_of))
    return st.one_of(st.lists(happens, max_size=40), st.lists(happens, min_size=10, max_size=40))


@dataclass(frozen=True)
class CreatedReading:
    """A finished reading."""

    orders: dict[int, CreatedOrder]
    asked: list[PageRequest]


def read(
    platform: CreatedList,
    asked: Span = DAY,
    *,
    page_size: int,
    moments: Sequence[Moment] = (),
    spoils: Sequence[Spoil | None] = (),
) -> CreatedReading:
    """List a span; after each answer something happens, and each may be spoilt."""
    happening, spoiling = iter(moments), iter(spoils)
    steps = list_created(asked, page_size=page_size, longest=LONGEST)
    try:
        request = next(steps)
        while True:
            assert len(platform.asked) < 5000, "a listing must end"
            dated = platform.answer(request, next(spoiling, None))
            next(happening, quiet)(platform)
            request = steps.send(dated)
    except StopIteration as end:
        return CreatedReading(end.value, platform.asked)


def read_by_numbers(platform: CreatedList, *, page_size: int, moments: Sequence[Moment] = ()) -> set[int]:
    """What everybody writes first: page after page, until there is no next page."""
    happening = iter(moments)
    found: set[int] = set()
    for page_no in range(1, 1000):
        page = platform.true_page(PageRequest(DAY, page_no, page_size, counting=False))
        next(happening, quiet)(platform)
        found |= page.orders.keys()
        if not page.has_next:
            break
    return found
