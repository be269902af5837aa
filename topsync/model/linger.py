"""How long a message may wait for others of its order, by its topic. No I/O.

A single call answers all earlier messages about an order. Messages that nobody acts on at once may wait for
more. For messages that somebody acts on, the order is fetched at once, which also answers its waiting
messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

LingerTimes = Mapping[str, timedelta]
"""The waits by topic (`taobao_trade_TradeRated`). For a topic that is not in it, the order is fetched at
once."""

LONGEST_WAIT_SECONDS: Final = 300.0

NO_LINGER: Final[LingerTimes] = {}

UNHURRIED: Final = "unhurried"
"""The word for a platform's usual waits."""


@dataclass(frozen=True, slots=True)
class LingerWords:
    """What a platform calls the messages that may wait."""

    prefix: str
    """What the topics have in common, and people leave out."""
    topics: Sequence[str]
    """Every topic that may wait, with the prefix. Only of messages about orders: those about refunds bring
    the refund, which is fetched at once in any case.
    """
    unhurried_seconds: Mapping[str, float]
    """What `UNHURRIED` stands for, by topic without the prefix."""


def parse(text: str, words: LingerWords) -> LingerTimes:
    """The waits in `topic=seconds,topic=seconds`, topics without their prefix, or of the word `unhurried`.

    Raises:
        ValueError: an entry is not that, or names a topic that the platform does not have, or a topic twice.
    """
    if text.strip() == UNHURRIED:
        usual = words.unhurried_seconds.items()
        return {words.prefix + name: timedelta(seconds=seconds) for name, seconds in usual}
    times: dict[str, timedelta] = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        name, _, seconds = (part.strip() for part in entry.partition("="))
        topic = words.prefix + name
        if topic not in words.topics:
            known = ", ".join(each.removeprefix(words.prefix) for each in words.topics)
            raise ValueError(f"no message about orders is called {name!r}; the topics are {known}")
        if topic in times:
            raise ValueError(f"{name} is named twice")
        times[topic] = timedelta(seconds=_wait_seconds(name, seconds))
    return times


def _wait_seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{name}: each entry is `topic=seconds`") from None
    if not 0 < seconds <= LONGEST_WAIT_SECONDS:
        raise ValueError(f"{name}: a wait is above 0 and at most {LONGEST_WAIT_SECONDS:g} seconds")
    return seconds
