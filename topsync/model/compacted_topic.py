"""The compacted topics as they look from outside, and how we see that a topic has lost records. Pure.

A compacted topic keeps the newest record of each key for ever: subscribers rely on that, and so does
`complete_until`. So its beginning never moves and its end only grows. If this is not so, somebody has deleted
the topic or some of its records.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from topsync.model.kind import Kind


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


_IN_WORDS: Final = {
    Reason.GONE: "is gone",
    Reason.MADE_ANEW: "was deleted and made anew",
    Reason.CUT_OFF: "had records deleted from its beginning",
    Reason.FALLEN_BACK: "has lost its last records",
    Reason.TOO_SHORT: "holds fewer records than the table has rows",
    Reason.LACKING: "lacks records that the table has",
}
"""Each reason, to follow the words `the topic orders`."""


@dataclass(frozen=True, slots=True)
class Look:
    """A compacted topic as it looks from outside."""

    topic_id: str | None
    """Kafka's id of it, which changes when it is made anew; None when the broker has no ids."""
    first_offsets: tuple[int, ...]
    """First offsets, by partition. Compaction does not move them."""
    end_offsets: tuple[int, ...]

    @property
    def offsets(self) -> int:
        """How many offsets lie between beginnings and ends. There are never more records than that."""
        return sum(self.end_offsets) - sum(self.first_offsets)


@dataclass(frozen=True, slots=True)
class TopicLoss:
    """A topic that has lost records."""

    kind: Kind
    """What the topic holds."""
    found_by: Finder
    reason: Reason
    lacking: int | None
    """How many records, if they were counted."""
    noticed_at: datetime
    """The database's clock."""

    @property
    def topic(self) -> str:
        """Its name in the registry."""
        return self.kind.plural

    def __str__(self) -> str:
        """What is wrong, and what to do."""
        count = "" if self.lacking is None else f" ({self.lacking})"
        cure = "`topsync republish`"
        if self.reason is Reason.GONE:
            cure = f"`topsync topics apply`, then {cure}"
        return f"the topic {self.topic} {_IN_WORDS[self.reason]}{count}: run {cure}"


def judge(before: Look, now: Look) -> Reason | None:
    """The reason why a topic must have lost records between two looks; None if it need not have.

    A topic that was made anew shows by its id, if both ids are known; mostly by its offsets, too.
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
    """The same for the first look at a topic, by how many of its kind were published before it."""
    return Reason.TOO_SHORT if now.offsets < published else None
