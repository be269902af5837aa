"""The form of a trade: sums, shapes and presence of fields are as in the reference and its samples."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulator.platform_client import FULL_FIELDS, make_world
from topsync.simulator.ids import OrderKey, tid_of
from topsync.simulator.life import EventKind, TradeType
from topsync.simulator.trades import BRIEF, DETAIL_ONLY, brief_trade, listed_trade
from topsync.simulator.world import World, find_move

UNPAID = {
    *(
        "WAIT_BUYER_PAY",
        "TRADE_NO_CREATE_PAY",
        "TRADE_CLOSED_BY_TAOBAO",
        "PAY_PENDING",
        "WAIT_PRE_AUTH_CONFIRM",
    ),
}
SAMPLES = Path(__file__).parents[1] / "data" / "top-samples"


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(orders=1500, history_days=30)


def trades(world: World) -> list[dict[str, Any]]:
    book = world.books[0]
    return [world.trade(book.seller, number) for number in book.numbers()]


def payment(trade: dict[str, Any]) -> Decimal:
    return yuan(trade["payment"])


def orders(trade: dict[str, Any]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = trade["orders"]["order"]
    return lines


def yuan(value: str) -> Decimal:
    assert value == f"{Decimal(value):.2f}"
    return Decimal(value)


def assert_sums_add_up(trade: dict[str, Any]) -> None:
    lines = orders(trade)
    gross = sum(yuan(line["price"]) * line["num"] for line in lines)
    assert yuan(trade["total_fee"]) == gross
    for line in lines:
        total = yuan(line["price"]) * line["num"] + yuan(line["adjust_fee"]) - yuan(line["discount_fee"])
        assert yuan(line["total_fee"]) == total
        assert yuan(line["divide_order_fee"]) == total - yuan(line.get("part_mjz_discount", "0.00"))
        if len(lines) > 1:
            assert yuan(line["payment"]) == total
    shared = sum(yuan(line.get("part_mjz_discount", "0.00")) for line in lines)
    assert shared == yuan(trade["discount_fee"])
    divided = sum(yuan(line["divide_order_fee"]) for line in lines)
    assert yuan(trade["payment"]) == divided + yuan(trade["post_fee"])
    assert yuan(trade["payment"]) > 0


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_sums_add_up_for_any_seed(seed: int) -> None:
    for trade in trades(make_world(seed=seed, orders=40)):
        assert_sums_add_up(trade)


def test_sums_add_up_after_live_changes_too() -> None:
    world = make_world(orders=0)
    seller = world.books[0].seller
    number = 0
    world.create(seller, TradeType.FIXED, min_lines=2)
    number = next(iter(world.books[0].numbers()))
    before = world.trade(seller, number)
    move = find_move(world.possible(seller, number), EventKind.MODIFY_FEE, None)
    assert move is not None
    world.perform(seller, number, move)
    trade = world.trade(seller, number)
    assert payment(trade) < payment(before)
    assert_sums_add_up(trade)


def test_item_data_stand_on_the_trade_only_when_it_has_one_line(world: World) -> None:
    seen = set()
    for trade in trades(world):
        single = len(orders(trade)) == 1
        seen.add(single)
        assert ({"num_iid", "price", "pic_path"} <= trade.keys()) == single
        if single:
            assert orders(trade)[0]["oid"] == trade["tid"]
            assert orders(trade)[0]["payment"] == trade["payment"]
        else:
            assert trade["num"] == 0
            assert trade["tid"] not in {line["oid"] for line in orders(trade)}
    assert seen == {True, False}


def test_no_field_is_null_and_absent_means_without_a_value(world: World) -> None:
    for trade in trades(world):
        assert None not in trade.values()
        for line in orders(trade):
            assert None not in line.values()
        assert ("pay_time" in trade) == (
            trade["status"] not in UNPAID
            and not (trade["type"] == "cod" and trade["status"] != "TRADE_FINISHED")
            and trade.get("step_trade_status") != "FRONT_PAID_FRONT_FORFEITED"
        )


def test_receivers_are_masked(world: World) -> None:
    for trade in trades(world):
        assert "**" in trade["receiver_name"]
        assert "**" in trade["receiver_address"]
        assert trade["receiver_mobile"].startswith("*******")


def test_every_state_of_the_reference_occurs_in_a_small_world(world: World) -> None:
    everything = trades(world)
    assert {trade["status"] for trade in everything} == {
        *("WAIT_BUYER_PAY", "TRADE_NO_CREATE_PAY", "WAIT_SELLER_SEND_GOODS", "SELLER_CONSIGNED_PART"),
        *("WAIT_BUYER_CONFIRM_GOODS", "TRADE_BUYER_SIGNED", "TRADE_FINISHED", "TRADE_CLOSED"),
        *("TRADE_CLOSED_BY_TAOBAO", "PAY_PENDING", "WAIT_PRE_AUTH_CONFIRM", "PAID_FORBID_CONSIGN"),
    }
    assert {trade["type"] for trade in everything} == {type_.value for type_ in TradeType}
    refunds = {line["refund_status"] for trade in everything for line in orders(trade)}
    assert {"NO_REFUND", "WAIT_SELLER_AGREE", "SUCCESS", "CLOSED", "SELLER_REFUSE_BUYER"} <= refunds
    steps = {trade.get("step_trade_status") for trade in everything}
    assert {"FRONT_PAID_FINAL_NOPAID", "FRONT_PAID_FINAL_PAID", "FRONT_PAID_FRONT_FORFEITED"} <= steps


def test_a_deposit_leaves_a_presale_unpaid_by_status(world: World) -> None:
    waiting = [t for t in trades(world) if t.get("step_trade_status") == "FRONT_PAID_FINAL_NOPAID"]
    assert waiting
    for trade in waiting:
        assert trade["status"] == "WAIT_BUYER_PAY"
        assert Decimal(0) < yuan(trade["step_paid_fee"]) < yuan(trade["payment"])


def test_messages_of_buyers_hold_what_breaks_naive_parsers(world: World) -> None:
    said = "".join(str(trade.get("buyer_message", "")) for trade in trades(world))
    assert "\u2028" in said
    assert "\n" in said


@pytest.mark.parametrize(
    "sample",
    ["trade_fullinfo_get_paid_two_orders_one_refunding.json", "trade_fullinfo_get_presale_step.json"],
)
def test_fields_and_their_json_types_are_those_of_the_samples(world: World, sample: str) -> None:
    theirs = orjson.loads((SAMPLES / sample).read_bytes())["trade_fullinfo_get_response"]["trade"]
    ours: dict[str, set[type]] = {}
    our_lines: dict[str, set[type]] = {}
    for trade in trades(world):
        for name, value in trade.items():
            ours.setdefault(name, set()).add(type(value))
        for line in orders(trade):
            for name, value in line.items():
                our_lines.setdefault(name, set()).add(type(value))
    for name, value in theirs.items():
        assert ours[name] == {type(value)}, name
    for line in theirs["orders"]["order"]:
        for name, value in line.items():
            assert our_lines[name] == {type(value)}, name


def test_lists_carry_a_subset_and_say_when_a_trade_arrived(world: World) -> None:
    for trade in trades(world):
        listed = listed_trade(trade, arrived=0)
        assert not DETAIL_ONLY & listed.keys()
        assert listed["has_buyer_message"] == ("buyer_message" in trade)
        assert "async_modified" in listed
        assert "async_modified" not in trade


def test_brief_trades_agree_with_full_trades() -> None:
    world = make_world(orders=1500, history_days=30)
    book = world.books[0]
    world.create(book.seller, TradeType.FIXED, min_lines=2)
    for number in book.newest(20):
        for kind in (EventKind.PAY, EventKind.SHIP_LINE, EventKind.REFUND_CREATE):
            if move := find_move(world.possible(book.seller, number), kind, None):
                world.perform(book.seller, number, move)
    for number in book.numbers():
        full = world.trade(book.seller, number)
        brief = brief_trade(
            tid_of(OrderKey(book.seller.index, number)), book.brief_state(number, book.events(number))
        )
        assert brief == {name: full[name] for name in BRIEF}
        assert list(brief) == [name for name in full if name in BRIEF]


def test_the_field_list_of_these_tests_names_every_field(world: World) -> None:
    assert set().union(*(trade.keys() for trade in trades(world))) <= set(FULL_FIELDS.split(","))


def test_the_world_of_a_seed_stays_as_it_is() -> None:
    """A seed in an old report must still give the same orders, so no change of ours may alter them."""
    digest = hashlib.sha256()
    for seed in (1, 20251111):
        world = make_world(seed=seed, orders=3000, sellers=2, history_days=89)
        for book in world.books:
            for number in book.numbers():
                digest.update(orjson.dumps(world.trade(book.seller, number)))
    assert digest.hexdigest() == "e93627b4cfd543efa0ea4393474e11bf4f3c48a7ad89bc82d0e9e5eb96d9e986"
