"""Random lives stay consistent."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from topsync.simulator.life import EventKind, OrderEvent, OrderState, TradeType, fold
from topsync.simulator.moves import Move, follow_ups, possible

TERMINAL = {"TRADE_FINISHED", "TRADE_CLOSED", "TRADE_CLOSED_BY_TAOBAO"}


def wander(type_: TradeType, lines: int, seed: int, steps: int = 25) -> list[OrderState]:
    chance = random.Random(seed)
    events = [OrderEvent(0, EventKind.CREATE)]
    states = [fold(type_, lines, events)]
    for at in range(1, steps):
        move = chance.choice(possible(states[-1]))
        for each in (move, *follow_ups(type_, move)):
            events.append(OrderEvent(at, each.kind, each.line))
            states.append(fold(type_, lines, events))
    return states


@pytest.mark.parametrize("type_", list(TradeType))
@pytest.mark.parametrize("lines", [1, 3])
def test_any_walk_keeps_lines_and_trade_in_step(type_: TradeType, lines: int) -> None:
    for seed in range(150):
        states = wander(type_, lines, seed)
        for before, state in pairwise(states):
            assert state.modified >= before.modified
            assert before.status not in TERMINAL or state.status == before.status
            if state.status == "TRADE_CLOSED" and state.closed_unpaid_at is None:
                assert all(line.refunded for line in state.lines)
            if state.status in ("WAIT_BUYER_CONFIRM_GOODS", "TRADE_FINISHED"):
                assert all(line.shipped_at is not None for line in state.open_lines)
            if state.status in TERMINAL:
                assert state.ended_at is not None


def test_paying_for_goods_without_a_parcel_ships_them_in_the_same_second() -> None:
    assert follow_ups(TradeType.AUTO_DELIVERY, Move(EventKind.PAY)) == (Move(EventKind.SHIP),)
    assert follow_ups(TradeType.FIXED, Move(EventKind.PAY)) == ()


def test_an_aftersale_refund_leaves_the_trade_finished() -> None:
    kinds = [EventKind.PAY, EventKind.SHIP, EventKind.FINISH]
    refund = [
        EventKind.REFUND_CREATE,
        EventKind.REFUND_AGREE,
        EventKind.REFUND_RETURN,
        EventKind.REFUND_SUCCESS,
    ]
    events = [
        OrderEvent(0, EventKind.CREATE),
        *(OrderEvent(1, kind) for kind in kinds),
        *(OrderEvent(2, k, 1) for k in refund),
    ]
    state = fold(TradeType.FIXED, 2, events)
    assert state.status == "TRADE_FINISHED"
    assert state.lines[0].refund is not None
    assert (state.lines[0].refund.phase, state.lines[0].refund.status) == ("aftersale", "SUCCESS")


def test_refunding_every_line_closes_the_trade() -> None:
    events = [OrderEvent(0, EventKind.CREATE), OrderEvent(1, EventKind.PAY)]
    for line in (1, 2):
        events += [
            OrderEvent(2, EventKind.REFUND_CREATE, line),
            OrderEvent(3, EventKind.REFUND_SUCCESS, line),
        ]
    assert fold(TradeType.FIXED, 2, events[:-1]).status == "WAIT_SELLER_SEND_GOODS"
    assert fold(TradeType.FIXED, 2, events).status == "TRADE_CLOSED"
