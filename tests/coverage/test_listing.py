"""Listing a span while its orders change: in each order of events, a claim covers only what was seen (I4)."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.coverage.moving_list import (
    NOW,
    Change,
    MovingList,
    Reading,
    at,
    limits,
    moments,
    platforms,
    quiet,
    read,
    second_of,
    span,
)
from topsync.coverage import listing, spans
from topsync.coverage.listing import ListingFailedError, Page, PageRequest, list_span

REACH = 60
"""A listing "to now" asks for so many seconds beyond now."""


def unseen(platform: MovingList, reading: Reading, *, allowance: float) -> list[Change]:
    """Changes in the proven time whose orders were listed in no state as new as the change."""
    listed = reading.listed()
    proofs = [
        proof
        for part in reading.parts
        if (
            proof := spans.proof(
                part.span, asked_at=part.asked_at, visibility_allowance=timedelta(seconds=allowance)
            )
        )
    ]
    return [
        change
        for change in platform.changes
        if any(proof.start <= at(change.made_at) < proof.end for proof in proofs)
        and listed.get(change.tid, -1) < change.modified
    ]


@given(data=st.data())
def test_a_listing_to_now_claims_only_what_it_saw_whatever_happens_meanwhile(data: st.DataObject) -> None:
    allowance = data.draw(st.sampled_from([0.0, 3.0, 12.0]), "allowance")
    platform = data.draw(platforms(allowance=allowance), "platform")
    how = limits(
        data.draw(st.integers(5, 8)),
        shortest=data.draw(st.sampled_from([1, 4])),
        longest=data.draw(st.sampled_from([7, 1800])),
    )
    asked = span(70, NOW + REACH)
    script = data.draw(moments(allowance=allowance), "moments")
    try:
        reading = read(platform, asked, how, script)
    except ListingFailedError:
        return  # nothing is claimed
    if platform.now >= second_of(asked.end):
        return  # the reach was too short: the pull lists again, and claims nothing from this listing
    assert unseen(platform, reading, allowance=allowance) == []


@given(data=st.data())
def test_the_listing_of_a_closed_window_has_every_order_that_stays_in_it(data: st.DataObject) -> None:
    platform = data.draw(platforms(allowance=10.0), "platform")
    asked = span(70, data.draw(st.integers(85, 99)))
    before = dict.fromkeys(tid for _, tid in platform.window(asked))
    try:
        reading = read(
            platform, asked, limits(data.draw(st.integers(5, 8))), data.draw(moments(allowance=10.0))
        )
    except ListingFailedError:
        return
    stayed = before.keys() & {tid for _, tid in platform.window(asked)}
    assert stayed <= reading.listed().keys()


def test_an_order_is_not_lost_if_another_order_that_comes_and_goes_moves_it_to_another_page() -> None:
    """The counterexample to reading until a pass finds nothing new: no pass ever shows the cause."""
    platform = MovingList(NOW, [Change(tid, 95.99 - tid / 10, NOW) for tid in range(1, 36)], next_tid=36)
    asked = span(92, 96)
    _, victim = platform.window(asked)[19]
    steps = list_span(asked, limits(10, shortest=4), now=at(NOW))
    intruder = None
    request = next(steps)
    try:
        while True:
            page = platform.answer(request, NOW)
            order = [tid for _, tid in platform.window(asked)]
            top = (request.page_no - 1) * request.page_size
            if intruder is None and order.index(victim) == top - 1:
                # The victim is to be read next: a late order pushes it down, to the pages that were read.
                intruder = platform.next_tid
                platform.appear(None, 95.99)
            elif intruder is not None and intruder not in page.orders:
                # And is modified again before its own page is read.
                platform.change(intruder)
                intruder = None
            request = steps.send(page)
    except StopIteration as end:
        (part,) = end.value
    assert set(range(1, 36)) <= part.orders.keys()


@pytest.mark.parametrize("moment", range(14))
@pytest.mark.parametrize("made_at", [92.0, 93.5, 95.9])
def test_a_burst_of_late_orders_between_any_two_calls_hides_none_that_was_there(
    moment: int, made_at: float
) -> None:
    """More orders than two pages share: the listing must notice that it lost its place, and begin anew."""
    platform = MovingList(NOW)
    platform.changes = [Change(tid, 92 + tid % 40 / 10, 92 + tid % 40 / 10) for tid in range(1, 301)]
    platform.next_tid = 301

    def burst(moving: MovingList) -> None:
        for _ in range(150):
            moving.appear(None, made_at)

    reading = read(platform, span(92, 96), limits(100), [quiet] * moment + [burst])
    assert set(range(1, 301)) <= reading.listed().keys()


@pytest.mark.parametrize("moment", range(14))
def test_a_burst_of_orders_that_leave_between_any_two_calls_hides_none_that_stays(moment: int) -> None:
    platform = MovingList(NOW)
    platform.changes = [Change(tid, 92 + tid % 40 / 10, 92 + tid % 40 / 10) for tid in range(1, 301)]
    platform.next_tid = 301

    def exodus(moving: MovingList) -> None:
        for tid in range(1, 301, 2):
            moving.change(tid)

    reading = read(platform, span(92, 96), limits(100), [quiet] * moment + [exodus])
    assert set(range(2, 301, 2)) <= reading.listed().keys()


@pytest.mark.parametrize("changes_per_moment", [1, 2, 5, 10])
def test_a_busy_seller_whose_orders_change_with_every_call_is_still_listed(changes_per_moment: int) -> None:
    platform = MovingList(NOW)
    platform.changes = [Change(tid, NOW - 10 + tid / 100, NOW - 10 + tid / 100) for tid in range(1, 1000)]
    platform.next_tid = 1000

    def rush(moving: MovingList) -> None:
        for _ in range(changes_per_moment):
            moving.change(None)

    reading = read(platform, span(80, NOW + REACH), limits(100), [rush] * 10_000)
    assert platform.now < NOW + REACH
    assert unseen(platform, reading, allowance=0) == []
    assert len(reading.asked) < 100


@pytest.mark.parametrize("end_included", [True, False])
def test_an_order_on_a_shared_boundary_second_is_listed_whether_or_not_ends_are_included(
    end_included: bool,
) -> None:
    platform = MovingList(NOW, end_included=end_included)
    platform.changes = [Change(tid, 60 + tid, 60 + tid) for tid in range(1, 40)]
    reading = read(platform, span(60, NOW + REACH), limits(5, shortest=1, longest=16))
    assert reading.listed() == {tid: 60 + tid for tid in range(1, 40)}
    for earlier, later in zip(reading.parts, reading.parts[1:], strict=False):
        assert earlier.span.end == later.span.start
    assert reading.parts[0].span.start == at(60)
    assert reading.parts[-1].span.end == at(NOW + REACH)


def test_a_span_that_fits_a_page_costs_one_call_and_an_empty_span_too() -> None:
    platform = MovingList(NOW)
    asked = span(0, NOW + REACH)
    assert len(read(platform, asked, limits(10)).asked) == 1
    for _ in range(10):
        platform.change(None)
    reading = read(platform, asked, limits(10))
    assert len(reading.asked) == 1
    assert len(reading.listed()) == 10


def test_parts_are_listed_oldest_first_and_only_the_last_reaches_into_the_future() -> None:
    platform = MovingList(NOW)
    platform.changes = [Change(tid, tid / 2, tid / 2) for tid in range(1, 200)]
    reading = read(platform, span(0, NOW + REACH), limits(10, longest=30))
    starts = [part.span.start for part in reading.parts]
    assert starts == sorted(starts)
    future = [part for part in reading.parts if part.span.end > at(NOW)]
    assert future == reading.parts[-1:] or all(part.span.start >= at(NOW) for part in future[1:])


def feed(
    asked_start: float, asked_end: float, answer: Callable[[PageRequest, int], Page]
) -> list[PageRequest]:
    """Drive a listing by a function of (request, number of the call); the requests, in order."""
    steps = list_span(span(asked_start, asked_end), limits(10, shortest=4), now=at(asked_end))
    requests: list[PageRequest] = []
    try:
        request = next(steps)
        while True:
            requests.append(request)
            assert len(requests) < 2000, "a listing must end"
            request = steps.send(answer(request, len(requests)))
    except StopIteration:
        return requests


REFUSED = Page(at(0), None, {}, refused=True)
EMPTY = Page(at(0), 0, {})


def test_a_window_that_the_platform_finds_too_wide_is_halved() -> None:
    def answer(request: PageRequest, _: int) -> Page:
        wide = request.span.end - request.span.start > timedelta(seconds=10)
        return REFUSED if wide else EMPTY

    requests = feed(0, 32, answer)
    answered = [r.span for r in requests if r.span.end - r.span.start <= timedelta(seconds=10)]
    assert answered == [span(0, 8), span(8, 16), span(16, 24), span(24, 32)]


def test_a_listing_fails_if_the_platform_refuses_even_the_shortest_window() -> None:
    with pytest.raises(ListingFailedError, match="refuses"):
        feed(0, 32, lambda request, _: REFUSED)


@pytest.mark.parametrize("refused_from_call", [2, 3, 4])
def test_a_page_that_is_refused_while_paging_never_counts_as_empty(refused_from_call: int) -> None:
    rows = {tid: at(1) for tid in range(1, 36)}
    platform = MovingList(NOW, [Change(tid, 1, 1) for tid in rows])

    def answer(request: PageRequest, call: int) -> Page:
        return REFUSED if call >= refused_from_call else platform.answer(request, 0)

    with pytest.raises(ListingFailedError):
        feed(0, 3, answer)


def test_a_part_that_changes_all_the_time_fails_after_a_bounded_number_of_calls() -> None:
    made = 0

    def answer(request: PageRequest, call: int) -> Page:
        nonlocal made
        made = call
        # No two answers share an order.
        rows = {call * 1000 + n: at(1) for n in range(request.page_size if request.page_no < 4 else 3)}
        return Page(at(0), 35 if request.counting else None, rows)

    with pytest.raises(ListingFailedError, match="too quickly"):
        feed(0, 3, answer)
    assert made <= listing.MAX_CLIMBS * 5


def test_a_total_that_disagrees_with_its_page_does_not_prove_the_whole_window() -> None:
    """The count and the rows may come from two queries. A row that was counted but not sent is not lost."""
    platform = MovingList(NOW, [Change(tid, 1, 1) for tid in range(1, 6)])

    def answer(request: PageRequest, call: int) -> Page:
        page = platform.answer(request, 0)
        if call == 1:
            return Page(page.asked_at, page.total, dict(list(page.orders.items())[:3]))
        return page

    assert len(feed(0, 3, answer)) > 1


def test_pages_are_never_larger_than_allowed_and_never_more_than_twice_as_many_as_needed() -> None:
    platform = MovingList(NOW, [Change(tid, 90, 90) for tid in range(1, 2001)])
    reading = read(platform, span(90, 92), limits(100))
    assert len(reading.listed()) == 2000
    assert max(request.page_size for request in reading.asked) == 100
    assert len(reading.asked) <= 2 * math.ceil(2000 / 100) + 3


def test_pages_too_small_to_overlap_fail_instead_of_going_on_for_ever() -> None:
    platform = MovingList(NOW, [Change(tid, 90, 90) for tid in range(1, 20)])
    with pytest.raises(ListingFailedError, match="too small"):
        read(platform, span(90, 92), limits(3))


def test_a_span_of_a_year_takes_no_more_memory_than_its_listed_orders() -> None:
    whole = span(0, 365 * 86400)
    tracemalloc.start()
    try:
        steps = list_span(whole, limits(100, longest=60), now=at(NOW))
        wishes = [next(steps)] + [steps.send(Page(at(NOW), 0, {})) for _ in range(9)]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [wish.span for wish in wishes] == [span(60 * number, 60 * (number + 1)) for number in range(10)]
    assert peak_bytes < 100_000
