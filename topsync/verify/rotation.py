"""Which days of a seller are compared in a night, and how closely. Pure.

Each day that the platform lists is counted every night. A day's ids are compared where the count differs, and
by rotation: each day within a week. The turns are spread over the nights and over the sellers, so that each
night has a seventh of the work. A turn that was missed, because a night ended too soon, is made up for in the
next night.
"""

from __future__ import annotations

import hashlib
import heapq
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from topsync.store.comparisons import DayProgress, NightsOf

NIGHTS_OF_A_TURN: Final = 7


@dataclass(frozen=True, slots=True)
class DayTask:
    """A day to be compared."""

    day: date
    by_ids: bool
    """Whether its ids are compared in any case."""
    unlisted: int = 0
    """See `DayProgress`."""


def days_within(oldest: date, today: date) -> list[date]:
    """The days from the oldest up to the day before `today`, which is not over."""
    return [oldest + timedelta(days=number) for number in range((today - oldest).days)]


def turn(seller_id: int, day: date, night: date) -> date:
    """The latest night up to `night` in which it is the turn of a seller's day."""
    place = zlib.crc32(str(seller_id).encode())
    return night - timedelta(days=(night.toordinal() - day.toordinal() - place) % NIGHTS_OF_A_TURN)


def tasks(
    seller_id: int, days: Iterable[date], known: Mapping[date, DayProgress], night: date
) -> list[DayTask]:
    """What is left to compare of a seller in a night; what was compared longest ago comes first."""
    left = [day for day in days if day not in known or known[day].counted_on != night]
    left.sort(key=lambda day: (known[day].counted_on if day in known else date.min, day))
    return [_task(seller_id, day, known.get(day), night) for day in left]


def _task(seller_id: int, day: date, known: DayProgress | None, night: date) -> DayTask:
    latest = turn(seller_id, day, night)
    if known is None:
        return DayTask(day, by_ids=latest == night)
    missed = latest >= known.since if known.listed_on is None else latest > known.listed_on
    return DayTask(day, missed, known.unlisted)


def in_order(sellers: Iterable[int], nights: Mapping[int, NightsOf]) -> list[int]:
    """Sellers in the order in which a night goes through them.

    Those that former nights did not reach come first, then those that they did not come to the end of.
    """

    def standing(seller_id: int) -> tuple[date, date, int]:
        of = nights.get(seller_id)
        return (date.min, date.min, seller_id) if of is None else (of.last, of.first, seller_id)

    return sorted(sellers, key=standing)


def sample(ids: Collection[int], night: date, size: int) -> Sequence[int]:
    """Some of the ids, others each night: those whose digest with the night is smallest."""
    text = night.isoformat()
    return heapq.nsmallest(
        size, ids, key=lambda id_: hashlib.blake2b(f"{text} {id_}".encode(), digest_size=8).digest()
    )
