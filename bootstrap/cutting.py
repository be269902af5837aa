"""Where a span of days is cut into slices. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DayCut:
    """The days of a slice, both included."""

    first_day: date
    last_day: date
    expected: int | None
    """How many objects the platform counts in them; None where it does not count."""


def days(first: date, last: date) -> Iterator[date]:
    """The days from the first to the last, both included."""
    day = first
    while day <= last:
        yield day
        day += DAY


def by_count(counts: Sequence[tuple[date, int]], most: int) -> list[DayCut]:
    """Days in a row, each with its count, in as few slices of at most so many objects as there can be.

    A day is never cut: by itself it may hold more. Days without objects go with their neighbours.
    """
    cuts: list[DayCut] = []
    first, expected = None, 0
    for day, count in counts:
        if first is not None and expected + count > most:
            cuts.append(DayCut(first, day - DAY, expected))
            first, expected = None, 0
        first = first or day
        expected += count
    if first is not None:
        cuts.append(DayCut(first, counts[-1][0], expected))
    return cuts


def by_days(first: date, last: date, most: int) -> list[DayCut]:
    """Slices of at most so many days, about equally long, where nobody has counted."""
    total = (last - first).days + 1
    parts = -(-total // most)
    starts = [first + DAY * (total * part // parts) for part in range(parts)]
    ends = [start - DAY for start in starts[1:]] + [last]
    return [DayCut(start, end, None) for start, end in zip(starts, ends, strict=True)]
