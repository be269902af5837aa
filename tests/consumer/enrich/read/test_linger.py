"""Which messages linger for others of their order, and until when; all other needs are urgent."""

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


def message(
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
        pytest.param([message(ago=4)], 16, id="as long as its topic allows"),
        pytest.param([message(RATED, ago=4)], 1, id="each topic its own time"),
        pytest.param([message(ago=20)], None, id="but not longer"),
        pytest.param([message(PAID, ago=0)], None, id="a topic that is not named is fetched at once"),
        pytest.param(
            [message(ago=10), message(RATED, ago=0)], 5, id="several wait as long as the shortest of them"
        ),
        pytest.param([message(RATED, ago=0), message(ago=18)], 2, id="whichever is the shortest"),
        pytest.param(
            [message(ago=4), message(PAID, ago=0)], None, id="an urgent message ends the wait of the others"
        ),
        pytest.param([message(PAID, ago=0), message(ago=0)], None, id="in any order"),
        pytest.param([message(ago=-1)], 21, id="a slow clock adds its delay"),
        pytest.param(
            [message(ago=-3600, received_ago=1)], 19, id="but not the time by which a message is ahead"
        ),
        pytest.param([message(ago=1, source=Source.SWEEP)], None, id="a list is urgent"),
        pytest.param([message(ago=1, source=Source.OPERATOR)], None, id="so is an operator"),
        pytest.param([message(ago=4), message(ago=1, source=Source.GAP)], None, id="also with a message"),
        pytest.param(
            [message(ago=1, reason="asked again")], None, id="a repeated request has waited already"
        ),
    ],
)
def test_until_when_messages_wait(hints: Sequence[Change], seconds: float | None) -> None:
    (need,) = decisions.coalesce(hints, Kind.ORDER, PATIENCE).values()
    until = decisions.lingers_until(need, now=NOW, waiting={})
    assert until == (None if seconds is None else NOW + timedelta(seconds=seconds))


def test_no_message_lingers_by_default() -> None:
    (need,) = decisions.coalesce([message(ago=0)], Kind.ORDER).values()
    assert decisions.lingers_until(need, now=NOW, waiting={}) is None


@pytest.mark.parametrize("reason", ["backlog", "in_task", "late", "no_session", "not_there", "no_news"])
def test_a_message_does_not_wait_where_its_order_waits_for_something_else(reason: str) -> None:
    """That may take half an hour, or until a seller is back, which is longer than a message may wait."""
    (need,) = decisions.coalesce([message(ago=0)], Kind.ORDER, PATIENCE).values()
    assert decisions.lingers_until(need, now=NOW, waiting={TID: reason}) is None
    assert decisions.lingers_until(need, now=NOW, waiting={TID: "lingering"}) is not None
