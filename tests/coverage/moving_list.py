"""The platform's list by `modified`, changing while it is read (docs/platform/gateway.md 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from topsync.coverage.listing import Listing, ListingLimits, Page, PageRequest, SpanPart, list_span
from topsync.model.span import Span

BASE = datetime(2025, 11, 20, tzinfo=UTC)
CALL_SECONDS = 0.05
NOW = 100.0
"""When a reader begins."""


def at(second: float) -> datetime:
    return BASE + timedelta(seconds=second)


def second_of(instant: datetime) -> float:
    return (instant - BASE).total_seconds()


def span(start: float, end: float) -> Span:
    return Span(at(start), at(end))


def limits(page_size: int, *, shortest: float = 4, longest: float = 1800) -> ListingLimits:
    return ListingLimits(page_size, timedelta(seconds=longest), timedelta(seconds=shortest))


@dataclass(frozen=True)
class Change:
    """A change of an order, and when the lists begin to show it."""

    tid: int
    made_at: float
    visible_at: float

    @property
    def modified(self) -> int:
        return math.floor(self.made_at)


@dataclass
class MovingList:
    """A seller's orders as the lists show them at `now`."""

    now: float
    changes: list[Change] = field(default_factory=list)
    end_included: bool = True
    next_tid: int = 1

    def change(self, tid: int | None, *, delay: float = 0.0) -> None:
        """An order is modified now, or created; the lists show it after `delay`."""
        if tid is None:
            tid = self.next_tid
        self.next_tid = max(self.next_tid, tid + 1)
        self.changes.append(Change(tid, self.now, self.now + delay))

    def appear(self, tid: int | None, made_at: float) -> None:
        """An older change becomes visible now."""
        if tid is None:
            tid = self.next_tid
        self.next_tid = max(self.next_tid, tid + 1)
        self.changes.append(Change(tid, made_at, self.now))

    def shown(self) -> dict[int, int]:
        """Each visible order's `modified`."""
        newest: dict[int, int] = {}
        for change in self.changes:
            if change.visible_at <= self.now:
                newest[change.tid] = max(change.modified, newest.get(change.tid, change.modified))
        return newest

    def window(self, asked: Span) -> list[tuple[int, int]]:
        """(modified, tid) in the list's order."""
        start, end = second_of(asked.start), second_of(asked.end)
        inside = [
            (modified, tid)
            for tid, modified in self.shown().items()
            if start <= modified < end or (self.end_included and modified == end)
        ]
        return sorted(inside, reverse=True)

    def answer(self, request: PageRequest, asked_at: float) -> Page:
        rows = self.window(request.span)
        offset = (request.page_no - 1) * request.page_size
        return Page(
            at(asked_at),
            len(rows) if request.counting else None,
            {tid: at(modified) for modified, tid in rows[offset : offset + request.page_size]},
        )


Moment = Callable[[MovingList], None]
"""What happens at a moment between two steps of the reader."""


def change(tid: int | None, delay: float) -> Moment:
    return lambda platform: platform.change(tid, delay=delay)


def appear(tid: int | None, age: float) -> Moment:
    return lambda platform: platform.appear(tid, platform.now - age)


def wait(seconds: float) -> Moment:
    def pass_time(platform: MovingList) -> None:
        platform.now += seconds

    return pass_time


def both(first: Moment, second: Moment) -> Moment:
    def happen(platform: MovingList) -> None:
        first(platform)
        second(platform)

    return happen


def quiet(_: MovingList) -> None:
    """Nothing happens."""


@st.composite
def platforms(draw: st.DrawFn, *, allowance: float) -> MovingList:
    """A list with many changes in a few seconds, some of them not visible yet."""
    crowded = draw(st.integers(80, 96))
    moment = st.one_of(st.floats(crowded, crowded + 3), st.floats(70, NOW))
    delays = st.one_of(st.just(0.0), st.floats(0, allowance))
    made = draw(st.lists(st.tuples(st.integers(1, 30), moment, delays), max_size=50))
    platform = MovingList(NOW, end_included=draw(st.booleans()), next_tid=31)
    platform.changes = [Change(tid, when, when + delay) for tid, when, delay in made]
    return platform


def moments(*, allowance: float) -> st.SearchStrategy[list[Moment]]:
    tids = st.one_of(st.none(), st.integers(1, 40))
    event: st.SearchStrategy[Moment] = st.one_of(
        st.just(quiet),
        st.builds(change, tids, st.one_of(st.just(0.0), st.floats(0, allowance))),
        st.builds(appear, tids, st.floats(0, allowance)),
        st.builds(wait, st.floats(0.0, 3.0)),
    )
    return st.lists(st.one_of(event, st.builds(both, event, event)), max_size=40)


@dataclass
class Reading:
    """A finished listing, and how many calls it took."""

    parts: list[SpanPart]
    asked: list[PageRequest]

    def listed(self) -> dict[int, int]:
        """The newest `modified` that any part lists."""
        newest: dict[int, int] = {}
        for part in self.parts:
            for tid, modified in part.orders.items():
                newest[tid] = max(math.floor(second_of(modified)), newest.get(tid, 0))
        return newest


def read(platform: MovingList, asked: Span, how: ListingLimits, moments: Sequence[Moment] = ()) -> Reading:
    """List a span; a moment happens before and after each answer is made."""
    steps: Listing = list_span(asked, how, now=at(math.floor(platform.now)))
    happening: Iterator[Moment] = iter(moments)
    requests = []

    def pass_a_moment() -> None:
        platform.now += CALL_SECONDS / 2
        if moment := next(happening, None):
            moment(platform)

    try:
        request = next(steps)
        while True:
            requests.append(request)
            asked_at = platform.now
            pass_a_moment()
            page = platform.answer(request, asked_at)
            pass_a_moment()
            request = steps.send(page)
    except StopIteration as end:
        return Reading(end.value, requests)
