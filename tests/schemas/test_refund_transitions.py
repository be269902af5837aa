"""Which transitions a step between two states of a refund reports."""

from __future__ import annotations

import orjson
import pytest

from schemas import refund_transitions
from schemas.change import Source
from schemas.refund import Refund
from schemas.refund_transitions import RefundTransition
from tests.simulator.platform_client import START_SECOND, make_world
from topsync.simulator import refunds
from topsync.simulator.life import EventKind, TradeType
from topsync.simulator.moves import Move

ASKED, REFUSED = {"status": "WAIT_SELLER_AGREE"}, {"status": "SELLER_REFUSE_BUYER"}
AGREED = {"status": "WAIT_BUYER_RETURN_GOODS"}
RETURNED = {"status": "WAIT_SELLER_CONFIRM_GOODS", "good_return_time": "2025-11-20T02:00:00Z"}
PAID_BACK = {**RETURNED, "status": "SUCCESS"}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        pytest.param(None, ASKED, ["created"], id="new"),
        pytest.param(ASKED, AGREED, ["agreed"], id="agreed"),
        pytest.param(AGREED, RETURNED, ["goods-returned"], id="returned"),
        pytest.param(RETURNED, PAID_BACK, ["succeeded"], id="paid back after the return"),
        pytest.param(ASKED, {"status": "SUCCESS"}, ["succeeded"], id="paid back without a return"),
        pytest.param(None, PAID_BACK, ["created", "agreed", "goods-returned", "succeeded"], id="all skipped"),
        pytest.param(ASKED, PAID_BACK, ["agreed", "goods-returned", "succeeded"], id="some skipped"),
        pytest.param(ASKED, REFUSED, ["refused"], id="refused"),
        pytest.param(REFUSED, ASKED, ["updated"], id="asked again"),
        pytest.param(REFUSED, {"status": "CLOSED"}, ["closed"], id="closed"),
        pytest.param({"status": "CLOSED"}, ASKED, ["updated"], id="opened again"),
        pytest.param(ASKED, {**ASKED, "refund_fee": "1.00"}, ["updated"], id="another amount"),
        pytest.param(ASKED, {"status": "NEVER_SEEN"}, ["updated"], id="a status that nobody knows"),
    ],
)
def test_which_transitions_a_step_reports(
    before: dict[str, str] | None, after: dict[str, str], words: list[str]
) -> None:
    step = refund_transitions.step(before, after, Source.PUSH)
    assert list(step.transitions) == words
    assert step.main == words[-1]
    assert step.status_from == (before["status"] if before else None)
    corrected = refund_transitions.step(before, after, Source.SWEEP)
    assert RefundTransition.CORRECTED in corrected.transitions
    assert corrected.main == (words[-1] if words != ["updated"] else "corrected")


def test_each_refusal_is_reported() -> None:
    steps = [
        refund_transitions.step(before, after, Source.PUSH).main
        for before, after in [(ASKED, REFUSED), (REFUSED, ASKED), (ASKED, REFUSED)]
    ]
    assert steps == ["refused", "updated", "refused"]


def test_changed_fields_are_named_but_not_the_times_that_always_change() -> None:
    before = {**ASKED, "modified": "1", "refund_version": 1, "sid": "R1"}
    after = {**AGREED, "modified": "2", "refund_version": 2}
    assert refund_transitions.step(before, after, Source.PUSH).changed == ("sid", "status")


def test_every_move_of_a_simulated_refund_is_reported_as_what_it_is() -> None:
    world = make_world(orders=0)
    seller = world.books[0].seller
    happening = world.create(seller, TradeType.FIXED)
    number, words, before = happening.draft.key.number, [], None
    for kind in (
        EventKind.PAY, EventKind.SHIP,
        EventKind.REFUND_CREATE, EventKind.REFUND_REFUSE, EventKind.REFUND_CLOSE,
        EventKind.REFUND_CREATE, EventKind.REFUND_AGREE, EventKind.REFUND_RETURN, EventKind.REFUND_SUCCESS,
    ):  # fmt: skip
        world.clock.advance(60)
        line = 1 if kind.startswith("refund") else 0
        happening = world.perform(seller, number, Move(kind, line))[-1]
        lived = happening.state.lines[0].refunds
        if not lived:
            continue
        raw = refunds.full_refund(seller, happening.draft, happening.state, 1, len(lived))
        assert raw
        now = orjson.loads(Refund.from_platform(raw).to_wire())
        if before is not None and before["refund_id"] != now["refund_id"]:
            before = None
        words.append(refund_transitions.step(before, now, Source.PUSH).main.value)
        before = now
    assert words == ["created", "refused", "closed", "created", "agreed", "goods-returned", "succeeded"]
    assert world.clock.second() > START_SECOND
