"""Refunds of the past are found by arithmetic, and agree with the orders they belong to."""

from __future__ import annotations

import pytest

from tests.simulator.platform_client import START_SECOND, make_world
from topsync.platforms.taobao.catalogue import REFUND_FIELDS
from topsync.simulator import refunds
from topsync.simulator.ids import OrderKey, refund_id_of, refund_of, tid_of
from topsync.simulator.life import REFUND_KINDS, EventKind, TradeType
from topsync.simulator.moves import Move
from topsync.simulator.refunds import RefundQuery
from topsync.simulator.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(orders=4000)


@pytest.mark.parametrize("span_seconds", [60, 600, 3600, 86400])
@pytest.mark.parametrize("back_seconds", [0, 7 * 3600, 3 * 86400 + 123, 12 * 86400 + 777])
def test_the_past_knows_every_order_that_was_refunded_in_a_window(
    world: World, span_seconds: int, back_seconds: int
) -> None:
    history = world.books[0].history
    last = START_SECOND - back_seconds
    first = last - span_seconds
    expected = {
        number
        for number in range(history.count)
        if any(event.kind in REFUND_KINDS and first <= event.at <= last for event in history.events(number))
    }
    assert history.refunded_between(first, last) == expected
    steps = history.refund_steps_between(first, last)
    assert span_seconds < 86400 or len(expected) / 2 <= steps <= len(expected) * 3


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
