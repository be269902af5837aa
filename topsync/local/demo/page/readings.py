"""What the processes have shown in the last minutes, read from their answers: a ring with a bound. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from topsync.base.metric_queries import Labels, Vector

INSTANCE: Final = "instance"
"""The label with the name of the process, as with Prometheus."""

KEPT: Final = 300
"""Readings in the ring: five minutes of one a second."""

RATE_SECONDS: Final = 10.0
"""The span over which rates are measured."""

MOST_LINES: Final = 20_000
"""Of one answer. The catalogue's bounds allow a process some thousand series."""

Values = Mapping[str, Mapping[Labels, float]]
"""By metric, then by labels."""


class TooManyLinesError(ValueError):
    """An answer has more lines than any process of ours shows."""


@dataclass(slots=True)
class AnswerParser:
    """Reads answers for `/metrics`. The series of a process are parsed once, later only their values."""

    process: str
    wanted: Collection[str]
    """The metrics that are read: most of an answer is of no panel."""
    _series: dict[str, tuple[str, Labels]] = field(default_factory=dict)
    """Metric and labels, by what stands before the value."""

    def read(self, answer: str) -> Values:
        """The wanted metrics in an answer.

        Raises:
            ValueError: it is no such answer.
        """
        lines = answer.splitlines()
        if len(lines) > MOST_LINES:
            raise TooManyLinesError(f"an answer of {len(lines)} lines")
        found: dict[str, dict[Labels, float]] = {}
        for line in lines:
            if _name_of(line) in self.wanted:
                metric, labels, value = self._parsed(line)
                found.setdefault(metric, {})[labels] = value
        return found

    def _parsed(self, line: str) -> tuple[str, Labels, float]:
        series, _, value = line.rpartition(" ")
        if known := self._series.get(series):
            return *known, float(value)
        samples = [
            sample for family in text_string_to_metric_families(line + "\n") for sample in family.samples
        ]
        if len(samples) != 1 or samples[0].timestamp is not None:
            raise ValueError(f"not a line of ours: {line!r}")
        metric = samples[0].name
        labels = tuple(sorted({**samples[0].labels, INSTANCE: self.process}.items()))
        if len(self._series) >= MOST_LINES:
            self._series.clear()
        self._series[series] = metric, labels
        return metric, labels, samples[0].value


def _name_of(line: str) -> str:
    return line.partition("{")[0].partition(" ")[0]


@dataclass(frozen=True, slots=True)
class MetricReading:
    """What all processes showed at a moment, as Unix time. A process that did not answer is not in it."""

    at: float
    by_process: Mapping[str, Values]

    def of(self, metric: str) -> Vector:
        """The values of a metric, of all processes."""
        found: dict[Labels, float] = {}
        for values in self.by_process.values():
            found.update(values.get(metric, {}))
        return found


@dataclass(slots=True)
class ReadingRing:
    """The last readings. It answers queries: see `topsync.base.metric_queries.Readings`."""

    kept: int = KEPT
    _readings: deque[MetricReading] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._readings)

    def add(self, reading: MetricReading) -> None:
        """Put in the newest; the oldest goes when the ring is full."""
        self._readings.append(reading)
        while len(self._readings) > self.kept:
            self._readings.popleft()

    @property
    def at(self) -> float:
        """When the processes were read last, as Unix time; 0 before that."""
        return self._readings[-1].at if self._readings else 0.0

    def latest(self, metric: str) -> Vector:
        """The values that stand now."""
        return self._readings[-1].of(metric) if self._readings else {}

    def rates(self, metric: str) -> Vector:
        """By how much each rose a second, over `RATE_SECONDS`, or since it is read, if that is shorter."""
        return {
            labels: rose / (last - first)
            for labels, (rose, first, last) in self._risen(metric, RATE_SECONDS).items()
        }

    def increases(self, metric: str, seconds: float) -> Vector:
        """By how much each rose in the last so many seconds, or since it is read, if that is shorter."""
        return {labels: rose for labels, (rose, _, _) in self._risen(metric, seconds).items()}

    def _risen(self, metric: str, seconds: float) -> dict[Labels, tuple[float, float, float]]:
        """By how much each rose, and between which moments; only what was read twice at least."""
        series: dict[Labels, list[tuple[float, float]]] = {}
        for reading in self._since(self.at - seconds):
            for labels, value in reading.of(metric).items():
                series.setdefault(labels, []).append((reading.at, value))
        return {
            labels: (_rise([value for _, value in points]), points[0][0], points[-1][0])
            for labels, points in series.items()
            if points[-1][0] > points[0][0]
        }

    def _since(self, moment: float) -> Iterator[MetricReading]:
        newest = []
        for reading in reversed(self._readings):
            if reading.at < moment:
                break
            newest.append(reading)
        return reversed(newest)


def _rise(values: list[float]) -> float:
    """By how much a counter rose. A fall is a new process, which began at 0."""
    rose = 0.0
    for before, after in itertools.pairwise(values):
        rose += after - before if after >= before else after
    return rose
