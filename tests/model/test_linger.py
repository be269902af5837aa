"""How long messages may wait, as people write it."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from topsync.model import linger
from topsync.platforms.taobao.catalogue import SUBSCRIBED_TOPICS
from topsync.platforms.taobao.linger import WORDS


def seconds(text: str) -> dict[str, float]:
    return {topic: wait.total_seconds() for topic, wait in linger.parse(text, WORDS).items()}


def test_an_empty_text_means_that_nothing_waits() -> None:
    assert seconds("") == {}


def test_topics_have_short_names_and_waits_are_in_seconds() -> None:
    assert seconds(" TradeRated=5, TradeMemoModified = 0.5,") == {
        "taobao_trade_TradeRated": 5,
        "taobao_trade_TradeMemoModified": 0.5,
    }


def test_a_single_word_stands_for_the_recommended_waits() -> None:
    assert seconds("unhurried") == seconds(
        "TradeCreate=20,TradeAlipayCreate=20,TradeRated=5,TradeMemoModified=5,TradeSuccess=3"
    )


@pytest.mark.parametrize("topic", [topic for topic in SUBSCRIBED_TOPICS if "_trade_" in topic])
def test_every_topic_about_orders_may_wait(topic: str) -> None:
    assert linger.parse(f"{topic.removeprefix('taobao_trade_')}=300", WORDS) == {topic: timedelta(minutes=5)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("TradeCreated=5", "no message about orders is called 'TradeCreated'; the topics are TradeCreate, "),
        ("taobao_trade_TradeCreate=5", "no message about orders is called 'taobao_trade_TradeCreate'"),
        ("RefundCreated=5", "no message about orders is called 'RefundCreated'"),
        ("*=5", "no message about orders is called '*'"),
        ("unhurried,TradeClose=1", "no message about orders is called 'unhurried'"),
        ("TradeCreate", "TradeCreate: each entry is `topic=seconds`"),
        ("TradeCreate=soon", "TradeCreate: each entry is `topic=seconds`"),
        ("TradeCreate=5=6", "TradeCreate: each entry is `topic=seconds`"),
        ("TradeCreate=-1", "TradeCreate: a wait is above 0 and at most 300 seconds"),
        ("TradeCreate=0", "TradeCreate: a wait is above 0 and at most 300 seconds"),
        ("TradeCreate=301", "TradeCreate: a wait is above 0 and at most 300 seconds"),
        ("TradeCreate=nan", "TradeCreate: a wait is above 0 and at most 300 seconds"),
        ("TradeCreate=5,TradeCreate=6", "TradeCreate is named twice"),
    ],
)
def test_a_mistake_is_named(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}"):
        linger.parse(text, WORDS)
