"""How long a message may wait for others of its order, by its topic. No I/O.

A single call answers all earlier messages about an order. Messages that nobody acts on at once may wait for
more. For messages that somebody acts on, the order is fetched at once, which also answers its waiting
messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from topsync.platforms.taobao.catalogue import SUBSCRIBED_TOPICS

Patience = Mapping[str, timedelta]
"""The waits by topic (`taobao_trade_TradeRated`). For a topic that is not in it, the order is fetched at
once."""

PREFIX: Final = "taobao_trade_"
"""Only messages about orders. A message about a refund names the refund, which is always fetched at once."""

TOPICS: Final = tuple(topic for topic in SUBSCRIBED_TOPICS if topic.startswith(PREFIX))

LONGEST_WAIT_SECONDS: Final = 300.0

NO_PATIENCE: Final[Patience] = {}

UNHURRIED: Final = "unhurried"
"""The word for the waits of `UNHURRIED_SECONDS`."""

UNHURRIED_SECONDS: Final = {
    # Most buyers pay within seconds of ordering, and the payment brings the new order along.
    "TradeCreate": 20.0,
    "TradeAlipayCreate": 20.0,
    # Buyer and seller rate one after the other, and a memo is often saved twice.
    "TradeRated": 5.0,
    "TradeMemoModified": 5.0,
}


def parse(text: str) -> Patience:
    """The waits in `topic=seconds,topic=seconds`, topics without their prefix, or of the word `unhurried`.

    Raises:
        ValueError: an entry is malformed, names a topic that is not in `TOPICS`, or names a topic twice.
    """
    if text.strip() == UNHURRIED:
        return {PREFIX + name: timedelta(seconds=seconds) for name, seconds in UNHURRIED_SECONDS.items()}
    patience: dict[str, timedelta] = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        name, _, seconds = (part.strip() for part in entry.partition("="))
        topic = PREFIX + name
        if topic not in TOPICS:
            raise ValueError(f"no message about orders is called {name!r}; the topics are {_names()}")
        if topic in patience:
            raise ValueError(f"{name} is named twice")
        patience[topic] = timedelta(seconds=_wait_seconds(name, seconds))
    return patience


def _wait_seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{name}: each entry is `topic=seconds`") from None
    if not 0 < seconds <= LONGEST_WAIT_SECONDS:
        raise ValueError(f"{name}: a wait is above 0 and at most {LONGEST_WAIT_SECONDS:g} seconds")
    return seconds


def _names() -> str:
    return ", ".join(topic.removeprefix(PREFIX) for topic in TOPICS)
