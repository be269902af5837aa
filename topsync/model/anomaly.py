"""Anomalies: what is odd about the platform's answers or about a shop, though nothing has failed for it.

What a process sees in passing is a sighting; whoever judges (`reconciler/anomalies.py`) adds what only counts
over time show. All of it is a row by kind and name, which is notified once.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

NAME_CHARACTERS: Final = 100
"""Names are the platform's. A longer text is no name, and is cut before it can reach a log."""

OTHERS: Final = "(others)"
"""Where there are too many names to be told one by one."""

_NOT_IN_A_NAME: Final = re.compile(r"[^\w.:\-*() ]", re.ASCII)
_IDS: Final = re.compile(r"\d{4,}")


class AnomalyKind(StrEnum):
    """What is odd. Each kind is notified by itself, at most once an hour."""

    UNKNOWN_CODE = "unknown_code"
    """An error code of the platform that no rule names; its name is the API's and the code's."""
    UNKNOWN_FIELD = "unknown_field"
    """A field that nobody knows, or a known field of an unknown shape."""
    UNKNOWN_TYPE = "unknown_type"
    """A trade type that is not among the types that lists are asked for."""
    UNLISTED_TYPE = "unlisted_type"
    """A trade type of orders that the platform shows and its lists leave out, as a comparison has found."""
    SILENT_SHOP = "silent_shop"
    """A shop with far fewer orders than usual, while messages of others flow; its name is the seller's id."""
    BEHIND_ANSWERS = "behind_answers"
    """A rise of answers that are behind what a list or message has said."""

    @property
    def is_judged(self) -> bool:
        """Whether it is told by counts over time: then it ends when the counts say so, and may come again."""
        return self in (AnomalyKind.SILENT_SHOP, AnomalyKind.BEHIND_ANSWERS)


LASTS: Final = {
    AnomalyKind.UNKNOWN_CODE: timedelta(days=1),
    AnomalyKind.UNKNOWN_FIELD: timedelta(days=1),
    AnomalyKind.UNKNOWN_TYPE: timedelta(days=1),
    # The ids of each day are compared once a week.
    AnomalyKind.UNLISTED_TYPE: timedelta(days=8),
    # Where counts say nothing any more, as of a shop that has closed for good.
    AnomalyKind.SILENT_SHOP: timedelta(days=7),
    AnomalyKind.BEHIND_ANSWERS: timedelta(days=1),
}
"""How long after it was last seen an anomaly still counts as one that lasts."""

NOTIFIED_EVERY: Final = timedelta(hours=1)
"""A kind is notified at most so often."""


def name_of(text: str) -> str:
    """A name that may be shown: of the usual characters, without long numbers, which may be ids."""
    return _IDS.sub("#", _NOT_IN_A_NAME.sub("?", text[:NAME_CHARACTERS])) or "?"


class Sighting(NamedTuple):
    """Something odd that a process has seen in passing."""

    kind: AnomalyKind
    name: str


@dataclass(slots=True)
class SightingCount:
    """How often something was seen, and an example."""

    count: int
    seller_id: int | None
    tid: int | None


MOST_NAMES: Final = 100
"""Names of a kind that a process holds between two writes. More is nothing that anybody would read."""


@dataclass(slots=True)
class Sightings:
    """What a process has seen since it last wrote it down. Bounded; for one event loop."""

    seen: dict[Sighting, SightingCount] = field(default_factory=dict)
    details: int = 0
    """Answers with an object in full."""
    behind: int = 0
    """How many of them were behind."""
    _names: Counter[AnomalyKind] = field(default_factory=Counter)

    def note(
        self,
        kind: AnomalyKind,
        name: str,
        *,
        seller_id: int | None = None,
        tid: int | None = None,
        count: int = 1,
    ) -> None:
        """Count something odd. `name` is the platform's, as it came; it is made fit to be shown."""
        sighting = Sighting(kind, name_of(name))
        known = self.seen.get(sighting)
        if known is None and self._names[kind] >= MOST_NAMES:
            sighting = Sighting(kind, OTHERS)
            known = self.seen.get(sighting)
        if known is None:
            self._names[kind] += 1
            self.seen[sighting] = SightingCount(count, seller_id, tid)
        else:
            known.count += count
            known.seller_id, known.tid = seller_id, tid

    def note_detail(self, *, is_behind: bool) -> None:
        """Count an answer with an object in full."""
        self.details += 1
        self.behind += is_behind

    def __bool__(self) -> bool:
        return bool(self.seen) or self.details > 0

    def take(self) -> Sightings:
        """What was seen, which is forgotten here."""
        taken = Sightings(self.seen, self.details, self.behind, self._names)
        self.seen, self.details, self.behind, self._names = {}, 0, 0, Counter()
        return taken

    def put_back(self, taken: Sightings) -> None:
        """Take what could not be written down in again."""
        later = self.take()
        self.seen, self.details, self.behind, self._names = (
            taken.seen,
            taken.details + later.details,
            taken.behind + later.behind,
            taken._names,
        )
        for sighting, seen in later.seen.items():
            self.note(*sighting, seller_id=seen.seller_id, tid=seen.tid, count=seen.count)


@dataclass(frozen=True, slots=True)
class FoundAnomaly:
    """What whoever judges has found, at present."""

    kind: AnomalyKind
    name: str
    seen: int
    """How many: orders of the shop, answers that are behind, orders that lists leave out."""
    among: int | None = None
    """Of how many, where that is counted."""
    expected: float | None = None
    """How many are usual at this hour of the week (the median)."""
    deviation: float | None = None
    """How far the count is usually from that."""
    seller_id: int | None = None
    tid: int | None = None
    at: datetime | None = None
    """When it was found; None: now."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """An anomaly as all processes know it. Times are the database clock's."""

    kind: AnomalyKind
    name: str
    seller_id: int | None
    """Whose it is, or of whom the last example was."""
    tid: int | None
    """The last example."""
    seen: int
    among: int | None
    expected: float | None
    deviation: float | None
    first_at: datetime
    last_at: datetime
