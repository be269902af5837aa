"""The compacted topics as they are from outside, and how it shows that one has lost records. Pure.

A compacted topic keeps the newest record of each key for ever: subscribers rest on that, and so does
`complete_until`. So its beginning never moves and its end only grows; where that is not so, somebody has
deleted it, or records of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class Compacted(StrEnum):
    """The compacted topics, by their names in the registry. Each stands for a table."""

    ORDERS = "orders"
    REFUNDS = "refunds"


class Finder(StrEnum):
    """Who notices that a topic has lost records."""

    ENRICHER = "enricher"
    """By looking at the topic from outside."""
    WITNESS = "witness"
    """By reading all of it, and comparing it with the table."""


class Reason(StrEnum):
    """What is wrong with a topic."""

    GONE = "gone"
    MADE_ANEW = "made_anew"
    CUT_OFF = "cut_off"
    FALLEN_BACK = "fallen_back"
    TOO_SHORT = "too_short"
    LACKING = "lacking"


TOLD: Final = {
    Reason.GONE: "is gone",
    Reason.MADE_ANEW: "was deleted and made anew",
    Reason.CUT_OFF: "had records deleted from its beginning",
    Reason.FALLEN_BACK: "has lost its last records",
    Reason.TOO_SHORT: "holds fewer records than the table has rows",
    Reason.LACKING: "lacks records that the table has",
}
"""Each reason behind `the topic orders`."""


@dataclass(frozen=True, slots=True)
class Look:
    """A compacted topic as it is from outside."""

    topic_id: str | None
    """Kafka's id of it, another one when it is made anew; None where the broker has none."""
    first_offsets: tuple[int, ...]
    """By partition. Compaction does not move them."""
    end_offsets: tuple[int, ...]

    @property
    def offsets(self) -> int:
        """How many offsets lie between beginnings and ends: at least as many as there are records."""
        return sum(self.end_offsets) - sum(self.first_offsets)


@dataclass(frozen=True, slots=True)
class TopicLoss:
    """A topic that has lost records."""

    topic: Compacted
    found_by: Finder
    reason: Reason
    lacking: int | None
    """How many records, where somebody counted."""
    noticed_at: datetime
    """The database's clock."""

    def __str__(self) -> str:
        """What is wrong, and what to do."""
        count = "" if self.lacking is None else f" ({self.lacking})"
        cure = "`topsync republish`"
        if self.reason is Reason.GONE:
            cure = f"`topsync topics apply`, then {cure}"
        return f"the topic {self.topic} {TOLD[self.reason]}{count}: run {cure}"


def judge(before: Look, now: Look) -> Reason | None:
    """How a later look at a topic shows that it has lost records; None where it does not.

    Both ids must be known to tell a topic that was made anew by them; its offsets show most such topics, too.
    """
    if None not in (before.topic_id, now.topic_id) and before.topic_id != now.topic_id:
        return Reason.MADE_ANEW
    if len(now.end_offsets) < len(before.end_offsets):
        return Reason.MADE_ANEW
    partitions = range(len(before.end_offsets))
    if any(now.end_offsets[number] < before.end_offsets[number] for number in partitions):
        return Reason.FALLEN_BACK
    if any(now.first_offsets[number] > before.first_offsets[number] for number in partitions):
        return Reason.CUT_OFF
    return None


def judge_first(now: Look, published: int) -> Reason | None:
    """The same of the first look, by how many orders or refunds had been published before it."""
    return Reason.TOO_SHORT if now.offsets < published else None
