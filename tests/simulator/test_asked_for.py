"""The simulator gives what the product asks for, and the product can read all that the simulator gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from schemas import content, refund_transitions, transitions
from schemas.change import Source
from schemas.refund import NOT_ITS_OWN, Refund
from schemas.trade import OrderLine, Trade
from tests.simulator.platform_client import make_world
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS, REFUND_FIELDS
from topsync.simulator import refunds
from topsync.simulator.director import Director
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.subscriptions import TopicSubscriptions
from topsync.simulator.world import World

EXPLAINED: Mapping[str, str] = {
    "async_modified": "only lists by arrival have it (docs/platform/gateway.md 5.2)"
}
"""Fields that are asked for and never given, and why."""

CHANGES = 4000


class Lives:
    """Some sellers' orders: all states of each order, oldest first, and their refunds."""

    def __init__(self) -> None:
        self.world = make_world(orders=3000, sellers=2, history_days=30)
        self.trades: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        self.refunds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for book in self.world.books:
            for number in book.numbers():
                self.look(self.world, book.seller.index, number)
        nobody = TopicSubscriptions(lambda _: None, self.world.clock.now, lambda _: False)
        director = Director(self.world, nobody, PlatformQuirks(), 1)
        for _ in range(CHANGES):
            self.world.clock.advance(1)
            key = director.step().draft.key
            self.look(self.world, key.seller, key.number)

    def look(self, world: World, seller: int, number: int) -> None:
        book = world.books[seller]
        trade: dict[str, Any] = world.trade(book.seller, number)
        self.trades[trade["tid"]].append(trade)
        for refund in refunds.all_of(book, number):
            self.refunds[str(refund["refund_id"])].append(refund)

    @property
    def all_trades(self) -> list[dict[str, Any]]:
        return [trade for life in self.trades.values() for trade in life]

    @property
    def all_refunds(self) -> list[dict[str, Any]]:
        return [refund for life in self.refunds.values() for refund in life]


@pytest.fixture(scope="module")
def lives() -> Lives:
    return Lives()


def test_all_that_is_asked_of_an_order_is_given_by_some(lives: Lives) -> None:
    given = set().union(*(trade.keys() for trade in lives.all_trades))
    assert set(FULLINFO_FIELDS) - given == EXPLAINED.keys()
    lines = [line for trade in lives.all_trades for line in trade["orders"]["order"]]
    assert OrderLine.typed <= set().union(*(line.keys() for line in lines))


def test_all_that_is_asked_of_a_refund_is_given_by_some(lives: Lives) -> None:
    assert set(REFUND_FIELDS) <= set().union(*(refund.keys() for refund in lives.all_refunds))


def test_all_that_is_given_is_known_and_has_the_form_that_we_expect(lives: Lives) -> None:
    for raw in lives.all_trades:
        trade = Trade.from_platform(raw)
        assert content.unknown_hash(Trade, trade.to_json()) == b""
        assert not trade.platform_fields.keys() & Trade.typed
        assert not [line for line in trade.orders if line.platform_fields.keys() & OrderLine.typed]
    for raw in lives.all_refunds:
        refund = Refund.from_platform(raw)
        assert content.unknown_hash(Refund, refund.to_json()) == b""
        assert not refund.platform_fields.keys() & Refund.typed


def test_every_step_of_every_life_has_a_word(lives: Lives) -> None:
    for life in lives.trades.values():
        seen = [Trade.from_platform(raw).to_json() for raw in life]
        for before, after in pairwise(seen):
            assert transitions.step(before, after, Source.PUSH).transitions
    for life in lives.refunds.values():
        seen = [Refund.from_platform(raw).to_json() for raw in life]
        for before, after in pairwise(seen):
            assert refund_transitions.step(before, after, Source.PUSH).transitions


def test_no_field_changes_while_modified_stays(lives: Lives) -> None:
    """The clock moves before each change, so that two changes are never in the same second."""
    for life in (*lives.trades.values(), *lives.refunds.values()):
        for before, after in pairwise(life):
            if before["modified"] == after["modified"]:
                assert not of_its_own(before) ^ of_its_own(after)


def of_its_own(seen: dict[str, Any]) -> set[tuple[str, str]]:
    """The fields of an order, or those fields of a refund that do not come from its order."""
    return {
        (name, repr(value)) for name, value in seen.items() if "tid_str" in seen or name not in NOT_ITS_OWN
    }


def test_words_that_are_seldom_used_are_used(lives: Lives) -> None:
    statuses = {trade["status"] for trade in lives.all_trades}
    assert {"PAY_PENDING", "WAIT_PRE_AUTH_CONFIRM", "PAID_FORBID_CONSIGN"} <= statuses
    of_lines = {line["status"] for trade in lives.all_trades for line in trade["orders"]["order"]}
    assert not of_lines & {"PAID_FORBID_CONSIGN", "SELLER_CONSIGNED_PART"}
    disputes = {
        "REFUND",
        "REFUND_AND_RETURN",
        "TMALL_EXCHANGE",
        "TAOBAO_EXCHANGE",
        "REPAIR",
        "RESHIPPING",
        "OTHERS",
    }
    assert {refund["dispute_type"] for refund in lives.all_refunds} == disputes
    assert {refund["cs_status"] for refund in lives.all_refunds} == {1, 2, 3, 4}
    assert {refund["status"] for refund in lives.all_refunds} >= {"SELLER_REFUSE_BUYER", "CLOSED", "SUCCESS"}
    cod = {(trade["type"] == "cod", trade["cod_status"]) for trade in lives.all_trades}
    assert cod == {
        (False, "NEW_CREATED"),
        *(
            (True, status)
            for status in ("NEW_CREATED", "WAITING_TO_BE_SENT", "ACCEPTED_BY_COMPANY", "SIGN_IN")
        ),
    }
    holds = [trade for trade in lives.all_trades if trade["status"] == "PAID_FORBID_CONSIGN"]
    assert all(trade["forbid_consign"] == 1 for trade in holds)
