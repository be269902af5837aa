"""Refunds of the past are found by arithmetic, and agree with the orders they belong to."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.simulator.platform_client import START_SECOND, make_world
from topsync.platforms.taobao.catalogue import REFUND_FIELDS
from topsync.simulator import refunds
from topsync.simulator.history import RefundRow
from topsync.simulator.ids import OrderKey, refund_id_of, refund_of, tid_of
from topsync.simulator.life import REFUND_KINDS, EventKind, TradeType
from topsync.simulator.moves import Move
from topsync.simulator.refunds import RefundQuery
from topsync.simulator.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(orders=4000)


@pytest.fixture(scope="module")
def changed_world() -> World:
    """Refunds of the past have gone on since the start, others have begun; lists do not show all of it."""
    world = make_world(orders=4000, delay=600)
    seller, book = world.books[0].seller, world.books[0]
    world.create(seller, TradeType.FIXED)
    for number in (*range(0, 4000, 7), book.next_number - 1):
        moves = world.possible(seller, number)
        world.clock.advance(3)
        if moves:
            world.perform(seller, number, moves[number % len(moves)])
    return world


def _rows_of_all(world: World, query: RefundQuery, now: int) -> list[RefundRow]:
    """What a list shows, found by going through all orders."""
    book = world.books[0]
    found: list[RefundRow] = []
    for number in book.numbers():
        if number >= book.history.count and not book.created_since_start(0, now, now):
            continue
        events, draft = book.shown(number, now).events, book.draft(number)
        if draft.type not in query.types or events[0].at < query.oldest_created:
            continue
        for position, line in enumerate(book.state(draft, events).lines, 1):
            found += [
                RefundRow(refund.modified, number, position, refund.attempt, refund.status)
                for refund in line.refunds
                if query.status in (None, refund.status) and query.first <= refund.modified <= query.last
            ]
    return sorted(found, reverse=True)


ALL_TYPES = frozenset(TradeType)


@given(
    back_seconds=st.integers(-2000, 20 * 86400),
    span_seconds=st.sampled_from([0, 60, 3600, 86400, 5 * 86400]),
    parts=st.lists(st.floats(0, 1), min_size=2, max_size=6),
    types=st.sampled_from([ALL_TYPES, frozenset({TradeType.FIXED})]),
    status=st.sampled_from([None, "SUCCESS", "WAIT_SELLER_AGREE"]),
    reach_days=st.sampled_from([None, 6]),
    early_seconds=st.integers(0, 2000),
)
@example(  # the window reaches beyond the start, and lists do not show all that happened there
    back_seconds=-1329,
    span_seconds=432000,
    parts=[0.0, 0.0],
    types=ALL_TYPES,
    status=None,
    reach_days=None,
    early_seconds=932,
)
@settings(max_examples=15)
def test_the_list_of_a_window_and_of_each_window_within_it_is_what_all_orders_say(
    changed_world: World,
    back_seconds: int,
    span_seconds: int,
    parts: list[float],
    types: frozenset[TradeType],
    status: str | None,
    reach_days: int | None,
    early_seconds: int,
) -> None:
    """A window is asked for first, then parts of it, which are answered from what is known of it."""
    first = START_SECOND - back_seconds - span_seconds
    now = changed_world.clock.second() - early_seconds
    oldest = 0 if reach_days is None else START_SECOND - reach_days * 86400
    everything = RefundQuery(first, first + span_seconds, types, status, oldest)
    expected = _rows_of_all(changed_world, everything, now)
    book = changed_world.books[0]
    assert refunds.between(book, everything, now) == expected
    # At the second of a refund as well, which belongs to the windows on both sides.
    cuts = sorted(
        {first + round(part * span_seconds) for part in parts} | {row.modified for row in expected[::9]}
    )
    for start, end in itertools.pairwise(cuts):
        part = replace(everything, first=start, last=end)
        rows = [row for row in expected if start <= row.modified <= end]
        assert refunds.between(book, part, now) == rows


def test_the_steps_of_a_window_are_counted_about_right_without_looking_at_an_order(world: World) -> None:
    history = world.books[0].history
    first, last = START_SECOND - 5 * 86400, START_SECOND - 4 * 86400
    happened = sum(
        event.kind in REFUND_KINDS and first <= event.at <= last
        for number in range(history.count)
        for event in history.events(number)
    )
    assert happened / 2 <= history.refund_steps_between(first, last) <= happened * 2


def test_a_listed_refund_is_listed_in_the_window_of_its_modification_alone(world: World) -> None:
    book = world.books[0]

    def listed(first: int, last: int) -> list[int]:
        query = RefundQuery(first, last, frozenset(TradeType), None, 0)
        return [found.modified for found in refunds.between(book, query, START_SECOND)]

    first, last = START_SECOND - 2 * 86400, START_SECOND
    middle = first + 86400
    assert listed(first, last) == listed(middle + 1, last) + listed(first, middle)
    assert all(first <= modified <= last for modified in listed(first, last))


def test_a_refund_number_leads_back_to_its_line() -> None:
    tid = tid_of(OrderKey(3, 12345))
    assert refund_of(refund_id_of(tid, 2, 3)) == (tid, 2, 3)


@pytest.mark.parametrize(("line", "attempt"), [(0, 1), (1, 0)])
def test_numbers_that_no_refund_has_lead_nowhere(line: int, attempt: int) -> None:
    assert refund_of(refund_id_of(tid_of(OrderKey(0, 0)), line, attempt)) is None
    assert refund_of(7) is None


def test_each_refund_of_a_line_keeps_its_own_story() -> None:
    world = make_world(orders=0)
    seller = world.books[0].seller
    happening = world.create(seller, TradeType.FIXED)
    number = happening.draft.key.number
    for kind in (EventKind.PAY, EventKind.REFUND_CREATE, EventKind.REFUND_CLOSE, EventKind.REFUND_CREATE):
        world.clock.advance(60)
        line = 1 if kind in REFUND_KINDS else 0
        (happening,) = world.perform(seller, number, Move(kind, line))
    first, second = happening.state.lines[0].refunds
    assert (first.attempt, first.status, second.attempt, second.status) == (
        1,
        "CLOSED",
        2,
        "WAIT_SELLER_AGREE",
    )
    assert (first.created, first.modified) == (START_SECOND + 120, START_SECOND + 180)
    assert (second.created, second.modified) == (START_SECOND + 240, START_SECOND + 240)


@pytest.mark.parametrize("moves", [True, False])
def test_a_refund_after_the_sale_may_leave_its_orders_modified_where_it_was(moves: bool) -> None:
    """It is not documented that the refund moves the order (docs/platform/gateway.md 3.10)."""
    world = make_world(orders=0, aftersale_refunds_move_orders=moves)
    seller, book = world.books[0].seller, world.books[0]
    number = world.create(seller, TradeType.FIXED).draft.key.number
    for kind in (EventKind.PAY, EventKind.SHIP, EventKind.FINISH):
        world.clock.advance(60)
        world.perform(seller, number, Move(kind))
    finished = world.clock.second()
    world.clock.advance(60)
    (happening,) = world.perform(seller, number, Move(EventKind.REFUND_CREATE, 1))
    now = world.clock.second()

    assert happening.state.modified == (now if moves else finished)
    assert book.shown(number, now).modified == happening.state.modified
    assert book.modified_between(0, now, now) == [(happening.state.modified, number)]
    query = RefundQuery(now, now, frozenset(TradeType), None, 0)
    assert [found.modified for found in refunds.between(book, query, now)] == [now]


def test_an_order_of_the_past_stays_in_its_window_when_only_its_refund_has_changed() -> None:
    world = make_world(orders=300, aftersale_refunds_move_orders=False)
    seller, book = world.books[0].seller, world.books[0]
    number = next(
        number
        for number in range(300)
        if Move(EventKind.REFUND_CREATE, 1) in world.possible(seller, number)
        and book.state(book.draft(number), book.events(number)).finished_at
    )
    before = book.history.modified(number)
    world.clock.advance(60)
    world.perform(seller, number, Move(EventKind.REFUND_CREATE, 1))
    now = world.clock.second()
    assert (before, number) in book.modified_between(before, before, now)
    assert (now, number) not in book.modified_between(now, now, now)


def test_the_truth_has_all_refunds_of_an_order_each_in_full() -> None:
    world = make_world(orders=0)
    seller, book = world.books[0].seller, world.books[0]
    number = world.create(seller, TradeType.FIXED).draft.key.number
    for kind in (EventKind.PAY, EventKind.REFUND_CREATE, EventKind.REFUND_CLOSE, EventKind.REFUND_CREATE):
        world.clock.advance(60)
        world.perform(seller, number, Move(kind, 1 if kind in REFUND_KINDS else 0))
    found = list(refunds.all_of(book, number))
    assert [refund["status"] for refund in found] == ["CLOSED", "WAIT_SELLER_AGREE"]
    assert len({str(refund["refund_id"]) for refund in found}) == 2
    assert all(set(refund) <= {*REFUND_FIELDS} for refund in found), "all fields together are the truth"
