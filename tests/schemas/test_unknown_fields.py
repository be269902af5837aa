"""Fields that nobody knows are named, wherever they are; what is known is not."""

from __future__ import annotations

from schemas.refund import Refund
from schemas.trade import CARRIED, CARRIED_OF_A_LINE, OPAQUE, Trade
from schemas.unknown_fields import unknown_fields
from tests.store.databases import platform_refund, platform_trade

TID = 4000000000000000101


def test_all_that_is_documented_is_known() -> None:
    known = {name: "1" for name in CARRIED}
    line = {"oid": TID, **{name: "1" for name in CARRIED_OF_A_LINE}}
    opaque = {
        name: {name.removesuffix("s"): [{each: "1" for each in fields}]} for name, fields in OPAQUE.items()
    }
    raw = {**platform_trade(TID), **known, **opaque, "orders": {"order": [line]}}
    assert unknown_fields(Trade, Trade.read(raw).content) == []


def test_what_nobody_knows_is_named_by_where_it_is() -> None:
    raw = platform_trade(
        TID,
        x_new="a",
        orders={"order": [{"oid": TID, "x_line": 1}, {"oid": TID + 1, "x_line": 2, "pic_path": "p"}]},
        promotion_details={"promotion_detail": [{"id": TID, "x_gift": 1}]},
    )
    assert unknown_fields(Trade, Trade.read(raw).content) == [
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
