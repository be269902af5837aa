"""What the page shows, from reading to reading: points, answers, who does not answer. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from topsync.base import durations
from topsync.base.panels import ROWS, Row
from topsync.local.demo.page import lines, summary
from topsync.local.demo.page.lines import Lines, Names
from topsync.local.demo.page.readings import KEPT, RATE_SECONDS, MetricReading, ReadingRing
from topsync.local.demo.page.summary import Figures


@dataclass(frozen=True, slots=True)
class Point:
    """What all panels showed at a moment."""

    number: int
    """From 1, without a gap."""
    at: float
    """Unix time."""
    panels: Sequence[Lines]
    """In the order of the rows and their panels; empty for a table."""


@dataclass(slots=True)
class Board:
    """The last points, as many as the ring of readings holds."""

    names: Names
    rows: Sequence[Row] = ROWS
    kept: int = KEPT
    points: deque[Point] = field(default_factory=deque)
    figures: deque[Figures] = field(default_factory=deque)
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why a process could not be read, by its name; empty for one that was read."""
    _readings: ReadingRing = field(init=False)
    _number: int = 0

    def __post_init__(self) -> None:
        self._readings = ReadingRing(self.kept)

    def add(self, reading: MetricReading, problems: Mapping[str, str]) -> None:
        """Put in a reading; `problems` names all processes that were asked."""
        self._readings.add(reading)
        self.problems = dict(problems)
        self._number += 1
        shown = [
            {} if panel.kind == "table" else lines.shown(panel, self._readings, self.names)
            for row in self.rows
            for panel in row.panels
        ]
        self.points.append(Point(self._number, reading.at, shown))
        self.figures.append(summary.figures(self._readings, self.names))
        while len(self.points) > self.kept:
            self.points.popleft()
            self.figures.popleft()

    def layout(self) -> dict[str, object]:
        """The rows and panels, in JSON."""
        return {
            "kept": self.kept,
            "rate_seconds": RATE_SECONDS,
            "rows": [
                {
                    "title": row.title,
                    "panels": [
                        {
                            "title": panel.title,
                            "kind": panel.kind,
                            "unit": panel.unit,
                            "about": panel.about,
                            "wrong_from": panel.wrong_from,
                        }
                        for panel in row.panels
                    ],
                }
                for row in self.rows
            ],
        }

    def since(self, number: int) -> dict[str, object]:
        """What is new after the point of this number, in JSON."""
        told = summary.of(self.figures)
        return {
            "points": [
                {"number": point.number, "at": point.at, "panels": point.panels}
                for point in self.points
                if point.number > number
            ],
            "state": told.state,
            "says": told.says,
            "answers": [asdict(answer) for answer in told.answers],
            "copies": [
                {
                    "seller": copy.seller,
                    "complete_until": summary.clock_time(self.figures[-1].at - copy.age_seconds),
                    "age": durations.text(copy.age_seconds),
                    "is_late": copy.is_late,
                }
                for copy in (self.figures[-1].copies if self.figures else ())
            ],
            "processes": [{"name": name, "problem": problem} for name, problem in self.problems.items()],
        }
