"""Fields that nobody knows are named, wherever they are; what is known is not."""

from __future__ import annotations

import pytest

from schemas.refund import Refund
from schemas.trade import CARRIED, CARRIED_OF_A_LINE, OPAQUE, Trade
from schemas.unknown_fields import unknown_fields
from tests.store.databases import platform_refund, platform_trade

TID = 4000000000000000101


def test_all_that_is_documented_is_known() -> None:
    known = dict.fromkeys(CARRIED, "1")
    line = {"oid": TID, **dict.fromkeys(CARRIED_OF_A_LINE, "1")}
    opaque = {name: {name.removesuffix("s"): [dict.fromkeys(fields, "1")]} for name, fields in OPAQUE.items()}
    raw = {**platform_trade(TID), **known, **opaque, "orders": {"order": [line]}}
    read = Trade.read(raw)
    assert not read.may_be_odd, "it need not be looked at"
    assert unknown_fields(Trade, read.content) == []


def test_what_nobody_knows_is_named_by_where_it_is() -> None:
    raw = platform_trade(
        TID,
        x_new="a",
        orders={"order": [{"oid": TID, "x_line": 1}, {"oid": TID + 1, "x_line": 2, "pic_path": "p"}]},
        promotion_details={"promotion_detail": [{"id": TID, "x_gift": 1}]},
    )
    read = Trade.read(raw)
    assert read.may_be_odd
    assert unknown_fields(Trade, read.content) == [
        "x_new",
        "orders.x_line",
        "orders.x_line",
        "promotion_details.x_gift",
    ]


def test_a_known_field_of_an_unknown_shape_is_named_as_such() -> None:
    raw = platform_trade(TID, payment={"cents": 1}, num="many")
    assert unknown_fields(Trade, Trade.read(raw).content) == [
        "num (of an unknown shape)",
        "payment (of an unknown shape)",
    ]


def test_refunds_are_looked_at_as_well() -> None:
    raw = platform_refund(3, TID, x_new=[])
    assert unknown_fields(Refund, Refund.read(raw).content) == ["x_new"]


@pytest.mark.parametrize(
    "raw",
    [
        platform_trade(TID, x_new="a"),
        platform_trade(TID, orders={"order": [{"oid": TID}, {"oid": TID + 1, "x_line": 2}]}),
        platform_trade(TID, promotion_details={"promotion_detail": [{"id": TID}, {"id": TID, "x_gift": 1}]}),
        platform_trade(TID, payment={"cents": 1}),
        platform_trade(TID, service_orders={"service_order": {"x_service": 1}}),
    ],
)
def test_whatever_is_odd_is_looked_at(raw: dict[str, object]) -> None:
    """`may_be_odd` spares the look at nearly all orders, and must not spare it here."""
    assert not Trade.read(platform_trade(TID)).may_be_odd
    read = Trade.read(raw)
    assert read.may_be_odd
    assert unknown_fields(Trade, read.content)
