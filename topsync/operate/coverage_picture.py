"""A seller's time as it is drawn: what is proven, what is open, where push was lost, what was replayed. Pure.

A day is a line, in GMT+8, and each character of it is some minutes. A character shows the worst of its
minutes, so nothing that is missing is ever hidden by what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from schemas import platform_time
from topsync.model.span import Span

CELL: Final = timedelta(minutes=20)
"""What a character stands for: a day in 72 of them, which fits 80 columns with its date."""

CELLS_A_DAY: Final = 72


class Cell(IntEnum):
    """What a character shows; the smallest value is the worst, and hides the others."""

    GAP = 0
    """Push was lost, and it is not proven yet."""
    OPEN = 1
    """It is not proven yet, for any other reason: too young, or missing between what is proven."""
    REPLAYED_OPEN = 2
    """Not proven; a replay has fetched what was missing, which proves nothing."""
    REPLAYED = 3
    """Proven, and some of it replayed as well."""
    PROVEN = 4
    """Everything that changed is stored and published."""
    BEFORE = 5
    """Before the bulk start: nobody claims anything."""
    AHEAD = 6
    """Still to come."""


LETTERS: Final = {
    Cell.GAP: "G",
    Cell.OPEN: "o",
    Cell.REPLAYED_OPEN: "r",
    Cell.REPLAYED: "R",
    Cell.PROVEN: "=",
    Cell.BEFORE: ".",
    Cell.AHEAD: " ",
}

LEGEND: Final = {
    Cell.PROVEN: "proven: every change is stored and published",
    Cell.OPEN: "open: not proven yet",
    Cell.GAP: "gap: push was lost, not proven yet",
    Cell.REPLAYED: "proven, and some of it replayed as well",
    Cell.REPLAYED_OPEN: "replayed, not proven yet",
    Cell.BEFORE: "before the bulk start",
}


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is known of a seller's time. All spans in UTC."""

    proven: Sequence[Span]
    """In order, apart from each other."""
    gaps: Sequence[Span]
    """Open gaps; one whose end is still to come ends now."""
    replayed: Sequence[Span]


@dataclass(frozen=True, slots=True)
class DrawnDay:
    """A line of the picture."""

    start: datetime
    cells: tuple[Cell, ...]

    @property
    def date(self) -> str:
        """As it is written at the line's beginning."""
        return platform_time.format(self.start)[:10]


def days(timeline: Timeline, span: Span, *, now: datetime) -> list[DrawnDay]:
    """The lines for all days that a span touches."""
    drawn, start = [], midnight(span.start)
    proven, gaps, replayed = (
        _Cursor(timeline.proven),
        _Cursor(joined(timeline.gaps)),
        _Cursor(joined(timeline.replayed)),
    )
    while start < span.end:
        cells = []
        for number in range(CELLS_A_DAY):
            cell = Span(start + number * CELL, start + (number + 1) * CELL)
            cells.append(_cell(cell, timeline, proven, gaps, replayed, now))
        drawn.append(DrawnDay(start, tuple(cells)))
        start += CELLS_A_DAY * CELL
    return drawn


def midnight(instant: datetime) -> datetime:
    """The beginning of a moment's day in GMT+8."""
    return instant.astimezone(platform_time.CHINA).replace(hour=0, minute=0, second=0, microsecond=0)


def _cell(
    cell: Span, timeline: Timeline, proven: _Cursor, gaps: _Cursor, replayed: _Cursor, now: datetime
) -> Cell:
    if cell.start >= now:
        return Cell.AHEAD
    past = Span(cell.start, min(cell.end, now))
    if not timeline.proven or past.end <= timeline.proven[0].start:
        return Cell.GAP if gaps.touches(past) and timeline.proven else Cell.BEFORE
    known = Span(max(past.start, timeline.proven[0].start), past.end)
    is_proven = proven.covers(known)
    if not is_proven and gaps.touches(known):
        return Cell.GAP
    if is_proven:
        return Cell.REPLAYED if replayed.touches(known) else Cell.PROVEN
    return Cell.REPLAYED_OPEN if replayed.covers(known) else Cell.OPEN


class _Cursor:
    """Looks spans up that are in order and apart, by times that only grow."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._at = 0

    def _reach(self, start: datetime) -> Span | None:
        while self._at < len(self._spans) and self._spans[self._at].end <= start:
            self._at += 1
        return self._spans[self._at] if self._at < len(self._spans) else None

    def touches(self, span: Span) -> bool:
        """Whether anything of the span is in any of them."""
        found = self._reach(span.start)
        return found is not None and found.start < span.end

    def covers(self, span: Span) -> bool:
        """Whether the whole span is in one of them."""
        found = self._reach(span.start)
        return found is not None and found.start <= span.start and span.end <= found.end


def joined(spans: Sequence[Span]) -> list[Span]:
    """The spans in order, those that touch made one."""
    made: list[Span] = []
    for span in sorted(spans, key=lambda each: each.start):
        if made and span.start <= made[-1].end:
            made[-1] = Span(made[-1].start, max(made[-1].end, span.end))
        else:
            made.append(span)
    return made


def lines(drawn: Sequence[DrawnDay]) -> Iterator[str]:
    """The picture, at most 80 columns wide: hours, and a line for each day; equal days are drawn once.

    Without a legend, see `legend`.
    """
    yield (
        "      " + "".join(f"{hour:<9}" for hour in ("00", "03", "06", "09", "12", "15", "18", "21")).rstrip()
    )
    year = ""
    for at, day in enumerate(drawn):
        if day.date[:4] != year:
            year = day.date[:4]
            yield year
        before, after = drawn[at - 1] if at else None, drawn[at + 1] if at + 1 < len(drawn) else None
        if before and after and before.cells == day.cells == after.cells and len(set(day.cells)) == 1:
            if not (at >= 2 and drawn[at - 2].cells == day.cells):
                yield "  ...  as the days around it"
            continue
        yield f"{day.date[5:]} {''.join(LETTERS[cell] for cell in day.cells)}".rstrip()


def legend(drawn: Sequence[DrawnDay]) -> Iterator[str]:
    """What the characters of the picture mean; only those that are in it."""
    used = {cell for day in drawn for cell in day.cells}
    for cell, meaning in LEGEND.items():
        if cell in used:
            yield f"{LETTERS[cell]}  {meaning}"
