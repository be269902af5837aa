"""From a pushed message to a change: only the ids are used, and nothing is guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from schemas.change import Hint, Source
from tests.store.databases import SELLER, at
from topsync.platforms.taobao.catalogue import SUBSCRIBED_TOPICS
from topsync.platforms.taobao.channel.messages import TmcMessage
from topsync.platforms.taobao.contents import (
    AUTH_CANCEL_TOPIC,
    MAX_CONTENT_VALUES,
    UnreadableMessageError,
    read_cancellation,
    read_change,
)

TID = 4000000000000000101
LAG = timedelta(seconds=2)


def message(content: object, *, topic: str = "taobao_trade_TradeBuyerPay", **fields: object) -> TmcMessage:
    text = content if isinstance(content, str) else orjson.dumps(content).decode()
    given: dict[str, object] = {
        "id": 7,
        "topic": topic,
        "content": text,
        "published_at": at(10),
        "user_id": SELLER,
        "nick": "demo_one",
        "data_id": None,
        "retried": 0,
        "raw": b"raw",
        **fields,
    }
    return TmcMessage(**given)  # type: ignore[arg-type]


def read(received: TmcMessage) -> Hint | None:
    return read_change(received, received_at=at(12), detail_lag=LAG)


def test_a_message_becomes_a_hint_that_a_fetch_after_the_detail_lag_answers() -> None:
    assert read(message({"tid": TID, "status": "ignored", "buyer_nick": "ignored"})) == Hint(
        seller_id=SELLER,
        tid=TID,
        event="taobao_trade_TradeBuyerPay",
        occurred_at=at(10),
        settled_after=at(12),
        modified=None,
        received_at=at(12),
        source=Source.PUSH,
    )


@pytest.mark.parametrize(
    ("named", "read_as"),
    [
        (180000000000000101, 180000000000000101),
        ("180000000000000101", 180000000000000101),
        (None, None),
        ("soon", None),
        (1.5, None),
    ],
    ids=["number", "text", "null", "unreadable", "a float"],
)
def test_a_message_may_name_a_refund_and_an_unreadable_refund_does_not_lose_the_order(
    named: object, read_as: int | None
) -> None:
    hint = read(message({"tid": TID, "refund_id": named}, topic="taobao_refund_RefundCreated"))
    assert hint is not None
    assert (hint.tid, hint.refund_id, hint.refund_modified) == (TID, read_as, None)


def test_a_message_without_a_time_counts_from_its_arrival() -> None:
    found = read(message({"tid": TID}, published_at=None))
    assert found is not None
    assert (found.occurred_at, found.settled_after) == (at(12), at(14))


@pytest.mark.parametrize("topic", SUBSCRIBED_TOPICS)
def test_every_subscribed_topic_about_an_order_or_a_refund_leads_to_the_order(topic: str) -> None:
    """A refund changes its order."""
    found = read(message({"tid": TID, "refund_id": 5}, topic=topic))
    if topic.startswith(("taobao_trade_", "taobao_refund_")):
        assert found is not None
        assert (found.tid, found.event) == (TID, topic)


@pytest.mark.parametrize("topic", ["taobao_topats_TaskComplete", "taobao_item_ItemAdd", "taobao_tradeless"])
def test_a_message_about_something_else_is_no_change_whatever_its_content(topic: str) -> None:
    assert read(message("not json", topic=topic)) is None


@pytest.mark.parametrize("tid", [2**53 + 1, 4000000000000000101, 2**63 - 1])
def test_ids_keep_every_digit_as_number_and_as_text(tid: int) -> None:
    for sent in (tid, str(tid)):
        found = read(message({"tid": sent}))
        assert found is not None
        assert found.tid == tid


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json: secret",
        "[1]",
        '"4000000000000000101"',
        "null",
        "{}",
        '{"tid":null}',
        '{"tid":4.0e18}',
        '{"tid":4000000000000000101.0}',
        '{"tid":true}',
        '{"tid":"secret"}',
        '{"tid":99999999999999999999}',
        '{"tid":"99999999999999999999"}',
        '{"tid":0}',
        '{"tid":-5}',
    ],
)
def test_a_message_that_names_no_order_is_refused_and_its_content_not_shown(content: str) -> None:
    with pytest.raises(UnreadableMessageError) as refused:
        read(message(content))
    assert "secret" not in str(refused.value)


def test_a_message_without_a_seller_is_refused() -> None:
    with pytest.raises(UnreadableMessageError, match="seller"):
        read(message({"tid": TID}, user_id=None))


@pytest.mark.parametrize("seller_id", [0, -1, -(2**63)])
def test_an_impossible_seller_is_refused(seller_id: int) -> None:
    with pytest.raises(UnreadableMessageError, match="userid"):
        read(message({"tid": TID}, user_id=seller_id))


def test_the_last_possible_time_is_refused() -> None:
    with pytest.raises(UnreadableMessageError, match="time"):
        read(message({"tid": TID}, published_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)))


def test_a_withdrawn_authorisation_names_its_seller_in_the_message_or_in_its_content() -> None:
    content = {"user_id": 2200000000009, "open_id": "AAopen"}
    assert read_cancellation(message(content, topic=AUTH_CANCEL_TOPIC)) == SELLER
    assert read_cancellation(message(content, topic=AUTH_CANCEL_TOPIC, user_id=None)) == 2200000000009
    for unreadable in ("", "[]", "not json", '{"user_id": 1.5}', "{}"):
        assert read_cancellation(message(unreadable, topic=AUTH_CANCEL_TOPIC, user_id=None)) is None


def test_no_other_message_withdraws_an_authorisation() -> None:
    assert read_cancellation(message({"tid": TID, "user_id": 5})) is None


def test_a_message_of_a_great_many_values_is_unreadable_and_cancels_nothing() -> None:
    content = f'{{"tid":{TID},"user_id":{SELLER},"x":[' + "[]," * MAX_CONTENT_VALUES + "0]}"
    with pytest.raises(UnreadableMessageError, match="more than 10000 values"):
        read(message(content))
    assert read_cancellation(message(content, topic=AUTH_CANCEL_TOPIC, user_id=None)) is None
