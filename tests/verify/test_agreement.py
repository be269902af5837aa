"""Which copies an audit calls stale, and which differ only in fields that do not count."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.trade import Trade
from tests.schemas import samples
from topsync.store.versions import StoredState
from topsync.verify.agreement import (
    Agreement,
    PublishedState,
    ShownObject,
    agreement,
    arrival,
    digest_of,
    shown,
)

WHOLE: dict[str, Any] = {**samples.complete(samples.FULL), "commission_fee": "1.00"}
NEW = {"x_new_text": "新"}
LACKING = {name: value for name, value in WHOLE.items() if name != "commission_fee"}


def of(trade: dict[str, Any]) -> ShownObject:
    written = Trade.read(trade).content
    return shown(Trade, "tid", "modified", written, digest_of(written))


def published(trade: dict[str, Any]) -> PublishedState:
    copy = of(trade)
    return PublishedState(copy.state.modified, copy.digest)


def compared(truth: dict[str, Any], table: dict[str, Any], topic: dict[str, Any] | None = None) -> Agreement:
    return agreement(Trade, of(truth), of(table), published(table if topic is None else topic))


@pytest.mark.parametrize("trade", [WHOLE, {**WHOLE, **NEW}])
def test_equal_is_equal(trade: dict[str, Any]) -> None:
    assert compared(trade, trade) is Agreement.FULL


@pytest.mark.parametrize(
    ("truth", "copy"),
    [(WHOLE, {**WHOLE, **NEW}), ({**WHOLE, **NEW}, WHOLE), (WHOLE, LACKING), (WHOLE, {**LACKING, **NEW})],
)
def test_a_difference_in_unknown_or_left_out_fields_is_not_stale(
    truth: dict[str, Any], copy: dict[str, Any]
) -> None:
    assert compared(truth, copy) is Agreement.IN_WHAT_COUNTS


@pytest.mark.parametrize(
    "copy",
    [
        {**WHOLE, "status": "TRADE_FINISHED"},
        {**WHOLE, "commission_fee": "2.00"},
        {**WHOLE, "top_hold": 1},
        {**LACKING, "seller_memo": "another"},
        {**LACKING, "modified": "2025-11-20 00:00:00"},
        {**WHOLE, "orders": {"order": [*WHOLE["orders"]["order"], *WHOLE["orders"]["order"]]}},
    ],
)
def test_everything_else_is_stale(copy: dict[str, Any]) -> None:
    assert compared(WHOLE, copy) is Agreement.NONE


def test_a_topic_that_differs_from_the_table_is_stale() -> None:
    assert compared(WHOLE, WHOLE, LACKING) is Agreement.NONE
    assert compared(WHOLE, LACKING, WHOLE) is Agreement.NONE


def test_a_missing_copy_agrees_with_nothing() -> None:
    truth = of(WHOLE)
    assert agreement(Trade, truth, None, published(WHOLE)) is Agreement.NONE
    assert agreement(Trade, truth, truth, None) is Agreement.NONE


def test_the_repr_of_a_copy_does_not_show_its_content() -> None:
    assert "receiver" not in repr(of(WHOLE))
    assert isinstance(of(WHOLE).state, StoredState)


def arrived(shown: list[dict[str, Any]], copy: dict[str, Any]) -> Agreement:
    return arrival(Trade, map(of, shown), of(copy), published(copy))


MEMO = {**WHOLE, "seller_memo": "noted within the same second"}
LATER = {**MEMO, "modified": "2036-01-01 00:00:00"}


def test_a_copy_has_arrived_when_it_has_the_shown_state_or_a_later_state() -> None:
    assert arrived([WHOLE, WHOLE], WHOLE) is Agreement.FULL
    assert arrived([WHOLE, LATER], WHOLE) is Agreement.FULL, "as the first look saw it"
    assert arrived([WHOLE, WHOLE], LATER) is Agreement.FULL, "newer than any look"
    assert arrived([WHOLE, WHOLE], LACKING) is Agreement.IN_WHAT_COUNTS
    assert arrived([LATER, LATER], WHOLE) is Agreement.NONE


def test_of_two_changes_in_a_second_the_second_is_not_a_stale_first() -> None:
    assert arrived([WHOLE, WHOLE], MEMO) is Agreement.NONE, "no look showed that"
    assert arrived([WHOLE, MEMO], MEMO) is Agreement.FULL


def test_the_order_of_names_makes_no_difference_between_table_and_topic() -> None:
    """PostgreSQL keeps its own order, also inside."""
    written = dict(of(WHOLE).written)
    reversed_ = {name: written[name] for name in reversed(written)}
    reversed_["orders"] = [dict(reversed(line.items())) for line in written["orders"]]
    assert list(reversed_) != list(written)
    assert digest_of(reversed_) == digest_of(written) != digest_of({**written, "seller_memo": "another"})
