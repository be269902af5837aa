"""What a delivery of the channel is: a hint, a notice, a withdrawal, an ended export, or unreadable."""

from __future__ import annotations

from datetime import timedelta

import pytest

from schemas.change import Hint
from tests.platforms.taobao.test_contents import TID, message
from tests.store.databases import SELLER, at
from topsync.platforms.message_port import ExportEnded, PlatformNotice, UnreadableMessage, Withdrawal
from topsync.platforms.taobao import messages
from topsync.platforms.taobao.channel.deliveries import Delivery
from topsync.platforms.taobao.contents import AUTH_CANCEL_TOPIC

LAG = timedelta(seconds=2)
TASK_DONE = "taobao_topats_TaskComplete"
OTHER = "taobao_item_ItemAdd"


def delivery(topic: str, content: object, **fields: object) -> Delivery:
    pushed = message(content, topic=topic, **fields)
    return Delivery(pushed, None, pushed.id, pushed.raw, at(12))


def test_a_message_about_an_order_is_a_hint() -> None:
    found = messages.read(delivery("taobao_trade_TradeBuyerPay", {"tid": TID}), detail_lag=LAG)
    assert isinstance(found, Hint)
    assert (found.tid, found.settled_after) == (TID, at(10) + LAG)


def test_a_message_about_something_else_is_a_notice_that_names_its_seller_if_it_has_a_seller() -> None:
    for user_id, seller_id in ((SELLER, SELLER), (0, None), (None, None)):
        found = messages.read(delivery(OTHER, {}, user_id=user_id), detail_lag=LAG)
        assert found == PlatformNotice(OTHER, "7", seller_id, at(12))


@pytest.mark.parametrize("content", [{}, {"task_id": 7}, "no json"])
def test_an_export_that_has_ended_is_also_a_notice_whatever_the_message_says(content: object) -> None:
    found = messages.read(delivery(TASK_DONE, content, user_id=SELLER), detail_lag=LAG)
    assert found == ExportEnded(PlatformNotice(TASK_DONE, "7", SELLER, at(12)), SELLER)
    nobodys = messages.read(delivery(TASK_DONE, content, user_id=0), detail_lag=LAG)
    assert nobodys == PlatformNotice(TASK_DONE, "7", None, at(12))


def test_a_withdrawn_authorisation_is_also_a_notice() -> None:
    found = messages.read(delivery(AUTH_CANCEL_TOPIC, {"user_id": 5}, user_id=None), detail_lag=LAG)
    assert found == Withdrawal(PlatformNotice(AUTH_CANCEL_TOPIC, "7", None, at(12)), 5, at(10))
    unreadable = messages.read(delivery(AUTH_CANCEL_TOPIC, "no json", user_id=None), detail_lag=LAG)
    assert isinstance(unreadable, PlatformNotice), (
        "no seller is named: the next call for the seller is refused"
    )


def test_a_frame_that_is_no_message_and_a_message_without_an_order_are_kept_as_they_came() -> None:
    frame = messages.read(Delivery(None, "truncated", None, b"\x02raw", at(12)), detail_lag=LAG)
    assert frame == UnreadableMessage("unreadable_frame", "truncated", b"\x02raw", at(12))
    found = messages.read(delivery("taobao_trade_TradeClose", {"tid": "secret"}), detail_lag=LAG)
    assert isinstance(found, UnreadableMessage)
    assert (found.reason, found.original, found.seller_id) == ("unreadable_message", b"raw", SELLER)
    assert found.detail.startswith("taobao_trade_TradeClose: tid: ")
    assert "secret" not in found.detail
