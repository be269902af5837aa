"""Which messages wait for others of their order, and until when; whatever else is wanted of it is urgent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from consumer.enrich.read import decisions
from schemas.change import Change, Source
from tests.store.databases import SELLER, at
from topsync.model.kind import Kind

TID = 4000000000000000101
NOW = at(1000)
CREATED, RATED, PAID = "taobao_trade_TradeCreate", "taobao_trade_TradeRated", "taobao_trade_TradeBuyerPay"
PATIENCE = {CREATED: timedelta(seconds=20), RATED: timedelta(seconds=5)}


def told(
    event: str = CREATED,
    *,
    ago: float,
    received_ago: float | None = None,
    source: Source = Source.PUSH,
    reason: str | None = None,
    modified: datetime | None = None,
) -> Change:
    return Change(
        seller_id=SELLER,
        tid=TID,
        event=event,
        occurred_at=at(1000 - ago),
        settled_after=at(1001 - ago),
        modified=modified,
        received_at=at(1000 - (ago if received_ago is None else received_ago)),
        source=source,
        reason=reason,
    )


@pytest.mark.parametrize(
    ("hints", "seconds"),
    [
        pytest.param([told(ago=4)], 16, id="as long as its topic may"),
        pytest.param([told(RATED, ago=4)], 1, id="each topic its own time"),
        pytest.param([told(ago=20)], None, id="but not for ever"),
        pytest.param([told(PAID, ago=0)], None, id="what is not named is fetched at once"),
        pytest.param([told(ago=10), told(RATED, ago=0)], 5, id="several wait for the least patient"),
        pytest.param([told(RATED, ago=0), told(ago=18)], 2, id="whichever that is"),
        pytest.param([told(ago=4), told(PAID, ago=0)], None, id="an urgent one takes the others along"),
        pytest.param([told(PAID, ago=0), told(ago=0)], None, id="in any order"),
        pytest.param([told(ago=-1)], 21, id="a clock that is behind adds what it is behind"),
        pytest.param([told(ago=-3600, received_ago=1)], 19, id="not what a message is ahead by"),
        pytest.param([told(ago=1, source=Source.SWEEP)], None, id="a list is waited for"),
        pytest.param([told(ago=1, source=Source.OPERATOR)], None, id="so is an operator"),
        pytest.param([told(ago=4), told(ago=1, source=Source.GAP)], None, id="also with a message"),
        pytest.param([told(ago=1, reason="asked again")], None, id="what asks again has waited"),
    ],
)
def test_until_when_messages_wait(hints: Sequence[Change], seconds: float | None) -> None:
    (need,) = decisions.coalesce(hints, Kind.ORDER, PATIENCE).values()
    until = decisions.lingers_until(need, now=NOW, waiting={})
    assert until == (None if seconds is None else NOW + timedelta(seconds=seconds))


def test_nothing_waits_unless_it_is_asked_to() -> None:
    (need,) = decisions.coalesce([told(ago=0)], Kind.ORDER).values()
    assert decisions.lingers_until(need, now=NOW, waiting={}) is None


@pytest.mark.parametrize("reason", ["backlog", "in_task", "late", "no_session", "not_there", "no_news"])
def test_a_message_does_not_wait_where_its_order_waits_for_something_else(reason: str) -> None:
    """That may take half an hour, or until a seller is back: a message may wait so long and no longer."""
    (need,) = decisions.coalesce([told(ago=0)], Kind.ORDER, PATIENCE).values()
    assert decisions.lingers_until(need, now=NOW, waiting={TID: reason}) is None
    assert decisions.lingers_until(need, now=NOW, waiting={TID: "lingering"}) is not None
