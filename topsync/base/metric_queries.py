"""What is asked of metrics, in a form that two can answer: Prometheus, and readings of our own. Pure.

Each query says how Prometheus is asked, for Grafana's dashboard, and answers the same question from readings,
for the page of the demo, which does without Prometheus. A test lets Prometheus answer both ways.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the order of the names."""

Vector = Mapping[Labels, float]
"""An answer: values by their labels."""

RATE_SPAN: Final = "$__rate_interval"
"""Grafana puts the span there over which rates are to be measured."""

BOUND: Final = "le"
"""The label with the upper bound of a bucket."""

_NAME: Final = re.compile(r"\btopsync_\w+")

FoldKind = Literal["max", "min", "sum", "count"]

_FOLDS: Final[Mapping[FoldKind, Callable[[Sequence[float]], float]]] = {
    "max": max,
    "min": min,
    "sum": sum,
    "count": len,
}


class Readings(Protocol):
    """What all processes have shown."""

    @property
    def at(self) -> float:
        """When they were read last, as Unix time."""

    def latest(self, metric: str) -> Vector:
        """The values that stand now."""

    def rates(self, metric: str) -> Vector:
        """By how much each rose a second, in the span over which rates are measured."""

    def increases(self, metric: str, seconds: float) -> Vector:
        """By how much each rose in the last so many seconds, or since it is read, if that is shorter."""


class MetricQuery(Protocol):
    """What is asked."""

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings."""


@dataclass(frozen=True, slots=True)
class LatestValue:
    """A metric as it is shown now; of the series that have these labels."""

    metric: str
    having: Labels = ()

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        labels = ",".join(f'{name}="{value}"' for name, value in self.having)
        return f"{self.metric}{{{labels}}}" if labels else self.metric

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings."""
        shown, wanted = readings.latest(self.metric), set(self.having)
        return {labels: value for labels, value in shown.items() if wanted <= set(labels)}


@dataclass(frozen=True, slots=True)
class RatePerSecond:
    """By how much a counter rises a second."""

    metric: str

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        return f"rate({self.metric}[{RATE_SPAN}])"

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings."""
        return readings.rates(self.metric)


@dataclass(frozen=True, slots=True)
class Increase:
    """By how much a counter has risen in the last hours."""

    metric: str
    hours: int = 1

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        return f"increase({self.metric}[{self.hours}h])"

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings."""
        return readings.increases(self.metric, self.hours * 3600)


@dataclass(frozen=True, slots=True)
class Fold:
    """All values that agree in some labels, made into a single value."""

    how: FoldKind
    of: MetricQuery
    by: tuple[str, ...] = ()

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        return f"{self.how}{_by(self.by)}({self.of.promql})"

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings."""
        groups: defaultdict[Labels, list[float]] = defaultdict(list)
        for labels, value in self.of.answer(readings).items():
            groups[_only(labels, self.by)].append(value)
        return {labels: float(_FOLDS[self.how](values)) for labels, values in groups.items()}


@dataclass(frozen=True, slots=True)
class Extremes:
    """The largest values, or the least, so many at most."""

    how: Literal["topk", "bottomk"]
    most: int
    of: MetricQuery

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        return f"{self.how}({self.most}, {self.of.promql})"

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings, the most extreme first."""
        values = self.of.answer(readings).items()
        ordered = sorted(values, key=lambda item: item[1], reverse=self.how == "topk")
        return dict(ordered[: self.most])


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of a histogram's recent values, as its buckets show it."""

    share: float
    metric: str
    by: tuple[str, ...] = ()

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        return f"histogram_quantile({self.share}, {self._rates.promql})"

    @property
    def _rates(self) -> Fold:
        return Fold("sum", RatePerSecond(f"{self.metric}_bucket"), (BOUND, *self.by))

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings; nothing where no value came."""
        buckets: defaultdict[Labels, list[tuple[float, float]]] = defaultdict(list)
        for labels, rate in self._rates.answer(readings).items():
            bound = float(dict(labels)[BOUND])
            buckets[_only(labels, self.by)].append((bound, rate))
        found = {labels: quantile(self.share, rates) for labels, rates in buckets.items()}
        return {labels: value for labels, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Above:
    """The values that are above a limit, which is a single value itself."""

    of: MetricQuery
    limit: MetricQuery

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        return f"{self.of.promql} > scalar({self.limit.promql})"

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings; nothing where there is no limit, or more than one."""
        limits = list(self.limit.answer(readings).values())
        if len(limits) != 1:
            return {}
        return {labels: value for labels, value in self.of.answer(readings).items() if value > limits[0]}


@dataclass(frozen=True, slots=True)
class AboveZero:
    """The values that are above 0."""

    of: MetricQuery

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        return f"{self.of.promql} > 0"

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings."""
        return {labels: value for labels, value in self.of.answer(readings).items() if value > 0}


@dataclass(frozen=True, slots=True)
class OrZero:
    """A single value, or 0 where there is none."""

    of: MetricQuery

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        return f"{self.of.promql} or vector(0)"

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings."""
        return {(): 0.0} | dict(self.of.answer(readings))


@dataclass(frozen=True, slots=True)
class Since:
    """How many seconds ago a moment was, or with an age the moment, as Unix time."""

    of: MetricQuery

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        return f"time() - {self.of.promql}"

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings."""
        return {labels: readings.at - value for labels, value in self.of.answer(readings).items()}


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric divided by another that has the same labels."""

    part: MetricQuery
    whole: MetricQuery

    @property
    def promql(self) -> str:
        """How Prometheus is asked."""
        return f"{self.part.promql} / {self.whole.promql}"

    def answer(self, readings: Readings) -> Vector:
        """The answer by these readings; nothing where the whole is 0."""
        whole = self.whole.answer(readings)
        parts = self.part.answer(readings).items()
        return {labels: value / whole[labels] for labels, value in parts if whole.get(labels)}


def quantile(share: float, buckets: Iterable[tuple[float, float]]) -> float | None:
    """The quantile of a histogram, as Prometheus estimates it: values lie evenly in their bucket.

    Args:
        share: from 0 to 1.
        buckets: upper bound, and how many values are not above it; one bound is infinite.

    Returns:
        None where there is no value. What is above the last finite bound counts as that bound.
    """
    ordered = sorted(buckets)
    total = ordered[-1][1] if ordered else 0.0
    if len(ordered) < 2 or not math.isinf(ordered[-1][0]) or total <= 0:
        return None
    rank = share * total
    at = next(at for at, (_, count) in enumerate(ordered) if count >= rank or at == len(ordered) - 1)
    if at == len(ordered) - 1:
        return ordered[-2][0]
    low, before = ordered[at - 1] if at else (0.0, 0.0)
    high, count = ordered[at]
    return low + (high - low) * (rank - before) / (count - before) if count > before else high


def metrics_of(query: MetricQuery) -> list[str]:
    """The names of the series that a query asks for; of a histogram those of its buckets."""
    return _NAME.findall(query.promql)


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


def _only(labels: Labels, kept: tuple[str, ...]) -> Labels:
    return tuple(pair for pair in labels if pair[0] in kept)
