"""What makes a version and what does not: fields come and go, and are written in different ways."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import orjson
import pytest
from pydantic import Field

from schemas import content
from schemas.refund import Refund
from schemas.trade import CARRIED, Trade
from schemas.types import Count
from tests.schemas import samples
from tests.support.places import SAMPLES
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS, REFUND_FIELDS
from topsync.simulator import wire
from topsync.simulator.faults.answers import with_single_elements

SAMPLE: dict[str, Any] = samples.complete(samples.FULL)
PRESALE: dict[str, Any] = samples.complete(samples.PRESALE)
REFUND: dict[str, Any] = orjson.loads((SAMPLES / "refund_get.json").read_bytes())["refund_get_response"][
    "refund"
]
NEW: dict[str, Any] = {"x_new_text": "新", "x_new_number": 2**60, "x_new_list": {"x_new_item": []}}

SERVICE: dict[str, Any] = {"oid": 7, "item_oid": 8, "service_id": 7001, "title": "延保"}
PROMOTION: dict[str, Any] = {"id": 7, "promotion_name": "满减", "discount_fee": "1.00"}


def of_trade(trade: dict[str, Any]) -> dict[str, Any]:
    return Trade.from_platform(trade).to_json()


def hash_of(trade: dict[str, Any]) -> bytes:
    return Trade.from_platform(trade).content_hash()


def in_lines(trade: dict[str, Any], alter: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    altered = copy.deepcopy(trade)
    for line in altered["orders"]["order"]:
        alter(line)
    return altered


def test_each_requested_field_is_known() -> None:
    """Otherwise a hold, for example, could change and make no version."""
    assert set(FULLINFO_FIELDS) <= Trade.known
    assert set(REFUND_FIELDS) <= Refund.known
    assert not Trade.typed & Trade.carried


@pytest.mark.parametrize("trade", [SAMPLE, PRESALE])
@pytest.mark.parametrize(
    "alter",
    [
        lambda trade: {**trade, **NEW},
        lambda trade: in_lines(trade, lambda line: line.update(NEW)),
        lambda trade: {**trade, "service_orders": {"service_order": [{**SERVICE, **NEW}]}},
        lambda trade: {**trade, "promotion_details": {"promotion_detail": [{**PROMOTION, **NEW}]}},
    ],
    ids=["order", "line", "service", "promotion"],
)
def test_an_unknown_field_is_carried_and_makes_no_version(
    alter: Callable[[dict[str, Any]], dict[str, Any]], trade: dict[str, Any]
) -> None:
    trade = {
        **trade,
        "service_orders": {"service_order": [SERVICE]},
        "promotion_details": {"promotion_detail": [PROMOTION]},
    }
    changed = alter(trade)
    assert hash_of(changed) == hash_of(trade)
    written = of_trade(changed)
    assert "x_new_number" in orjson.dumps(written).decode()
    assert content.unknown_hash(Trade, written)
    assert content.unknown_hash(Trade, of_trade(trade)) == b""


def test_an_unknown_field_of_a_refund_makes_no_version() -> None:
    inner = {**REFUND["refund_remind_timeout"], **NEW}
    for changed in ({**REFUND, **NEW}, {**REFUND, "refund_remind_timeout": inner}):
        refund = Refund.from_platform(changed)
        assert refund.content_hash() == Refund.from_platform(REFUND).content_hash()
        assert content.unknown_hash(Refund, refund.to_json())


@pytest.mark.parametrize("name", sorted(CARRIED))
def test_a_carried_field_without_a_type_makes_a_version(name: str) -> None:
    assert hash_of({**SAMPLE, name: "another"}) != hash_of(SAMPLE)


ONE_PROMOTION = {**PRESALE, "promotion_details": {"promotion_detail": [{"id": 2**62, "promotion_name": "x"}]}}


@pytest.mark.parametrize(
    "trade", [ONE_PROMOTION, {**ONE_PROMOTION, "logistics_infos": {"logistics_info": [{}]}}]
)
@pytest.mark.parametrize("rewritten", [wire.with_text_ids, with_single_elements])
def test_another_way_of_writing_a_value_makes_no_version(
    trade: dict[str, Any], rewritten: Callable[[object], Any]
) -> None:
    assert rewritten(trade) != trade
    assert hash_of(rewritten(trade)) == hash_of(trade)


def test_another_value_of_a_field_that_is_left_out_at_times_is_another_state() -> None:
    """Extended in the second in which it was shipped."""
    before, after = ({**SAMPLE, "timeout_action_time": f"2025-12-0{day} 00:00:00"} for day in (1, 4))
    assert hash_of(before) != hash_of(after)
    assert not content.says_no_more(Trade, of_trade(after), of_trade(before))


LEFT_OUT: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
    lambda trade: {name: value for name, value in trade.items() if name not in Trade.left_out},
    lambda trade: in_lines(trade, lambda line: line.pop("refund_id", None)),
    lambda trade: in_lines(trade, lambda line: line.pop("special_refund_type")),
]


@pytest.mark.parametrize("without", LEFT_OUT)
def test_a_state_that_only_lacks_fields_that_are_left_out_at_times_adds_nothing(
    without: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    whole = in_lines(
        {**SAMPLE, "timeout_action_time": "2025-12-01 00:00:00", "commission_fee": "1.00"},
        lambda line: line.update(special_refund_type="x"),
    )
    lacking = of_trade(without(whole))
    assert lacking != of_trade(whole)
    assert content.says_no_more(Trade, lacking, of_trade(whole))
    assert not content.says_no_more(Trade, of_trade(whole), lacking), "a field that was left out has come"
    other = without({**whole, "status": "TRADE_FINISHED"})
    assert not content.says_no_more(Trade, of_trade(other), of_trade(whole)), "something else has changed"
    twice = {"order": [*whole["orders"]["order"], *whole["orders"]["order"]]}
    more = of_trade({**without(whole), "orders": twice})
    assert not content.says_no_more(Trade, more, of_trade(whole)), "there are other lines"


class LaterTrade(Trade):
    """As a later release reads it: two more fields have become known."""

    left_out: ClassVar = Trade.left_out
    x_new_number: Count | None = None
    toptype: str | None = Field(None)


def test_a_field_that_becomes_known_is_read_from_the_carried_fields() -> None:
    sent = {**SAMPLE, "x_new_number": 7, "toptype": "a"}
    stored = Trade.from_platform(sent).to_wire()
    again = LaterTrade.from_wire(stored)
    assert (again.x_new_number, again.toptype) == (7, "a")
    assert again == LaterTrade.from_platform(sent)
    assert content.says_no_more(LaterTrade, LaterTrade.from_platform(sent).to_json(), again.to_json())


def test_a_field_that_becomes_known_and_has_an_odd_shape_stays_as_it_was() -> None:
    stored = Trade.from_platform({**SAMPLE, "x_new_number": "many"}).to_wire()
    again = LaterTrade.from_wire(stored)
    assert again.x_new_number is None
    assert again.platform_fields["x_new_number"] == "many"
