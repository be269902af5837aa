"""How a metric is entered into the catalogue: what it counts, in which unit, with which labels, what to do.

Every metric of topsync is made by a section of the catalogue (`topsync/base/metrics.py` has them all), and so
has all of this: `docs/reference/metrics.md` is generated from it. A name that breaks the conventions of
Prometheus stops the process at its start, and so the first test that imports it.

Each label has a bound on its values. What could have more of them, as the sellers have, is shown by
`WorstSellers` alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from prometheus_client import Counter, Gauge, Histogram, Metric

PREFIX: Final = "topsync_"
BASE_UNITS: Final = ("seconds", "bytes")
"""A metric in one of these has it at the end of its name, before `_total`."""

ONE_OR_NOT: Final = "0 or 1"
"""The unit of what is true or not."""

WORST: Final = 100
"""Of so many sellers at most a metric names each."""

Unit = Literal[
    "seconds",
    "bytes",
    "0 or 1",
    "anomalies",
    "attempts",
    "calls",
    "calls a second",
    "changes",
    "circuits",
    "connections",
    "days",
    "differences",
    "gaps",
    "holes",
    "leases",
    "messages",
    "orders",
    "partitions",
    "records",
    "refunds",
    "restarts",
    "rounds",
    "rows",
    "sellers",
    "sightings",
    "slices",
    "spans",
    "steps back",
    "tasks",
    "windows",
]


class MetricKind(StrEnum):
    """How a metric moves."""

    COUNTER = "counter"
    """It only rises, and begins anew at 0 with its process: ask for its rate or increase."""
    GAUGE = "gauge"
    """It stands as it is now."""
    HISTOGRAM = "histogram"
    """How often each size came: ask for a quantile of the rate of its buckets."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label, and how many values it may have in one process."""

    name: str
    values: str
    """In a few words: which there are."""
    most: int


@dataclass(frozen=True, slots=True)
class CataloguedMetric:
    """A metric as the catalogue has it."""

    name: str
    kind: MetricKind
    unit: Unit
    labels: Sequence[Label]
    meaning: str
    do: str
    """When to look into it, and what to do then; empty where it only helps to understand others."""

    @property
    def most_series(self) -> int:
        """How many series one process may show, without the buckets of a histogram."""
        most = 1
        for label in self.labels:
            most *= label.most
        return most


class MeasuredGauge(Gauge):
    """A gauge that only the process shows that has measured it: a 0 of the others would be a wrong answer."""

    _is_known: bool = False

    def set(self, value: float) -> None:
        """Note what was measured."""
        self._is_known = True
        super().set(value)

    def forget(self) -> None:
        """Show nothing any more: another process measures now, or nobody."""
        self._is_known = False

    def collect(self) -> Iterable[Metric]:
        """What Prometheus is shown."""
        return super().collect() if self._is_known else ()


@dataclass(frozen=True, slots=True)
class WorstSellers:
    """A gauge by seller that names the worst ones, and says how many others it does not name.

    However many sellers there are, Prometheus gets `WORST` series at most.
    """

    gauge: Gauge
    not_named: Gauge
    """The child of `topsync_sellers_not_named` for this gauge."""
    worst_is_least: bool = False

    def show(self, values: Mapping[int, float]) -> None:
        """Show the worst of these, in place of those shown before."""
        pick = heapq.nsmallest if self.worst_is_least else heapq.nlargest
        worst = pick(WORST, values.items(), key=lambda item: item[1])
        self.gauge.clear()
        for seller_id, value in worst:
            self.gauge.labels(str(seller_id)).set(value)
        self.not_named.set(len(values) - len(worst))

    def forget(self) -> None:
        """Show nothing any more."""
        self.gauge.clear()
        self.not_named.set(0)


SELLER_ID: Final = Label("seller_id", "the sellers for which it is worst", WORST)


@dataclass(slots=True)
class Section:
    """A section of the catalogue, and of the page: metrics with one subject."""

    title: str
    metrics: list[CataloguedMetric] = field(default_factory=list)

    def __post_init__(self) -> None:
        _SECTIONS.append(self)

    def counter(
        self, name: str, meaning: str, unit: Unit, labels: Sequence[Label] = (), *, do: str = ""
    ) -> Counter:
        """Enter a counter and make it."""
        self._enter(CataloguedMetric(name, MetricKind.COUNTER, unit, tuple(labels), meaning, do))
        return Counter(name, meaning, [label.name for label in labels])

    def gauge(
        self, name: str, meaning: str, unit: Unit, labels: Sequence[Label] = (), *, do: str = ""
    ) -> Gauge:
        """Enter a gauge and make it."""
        self._enter(CataloguedMetric(name, MetricKind.GAUGE, unit, tuple(labels), meaning, do))
        return Gauge(name, meaning, [label.name for label in labels])

    def measured_gauge(self, name: str, meaning: str, unit: Unit, *, do: str = "") -> MeasuredGauge:
        """Enter a gauge that only the process shows that has measured it, and make it."""
        self._enter(CataloguedMetric(name, MetricKind.GAUGE, unit, (), meaning, do))
        return MeasuredGauge(name, meaning)

    def worst_sellers(
        self,
        name: str,
        meaning: str,
        unit: Unit,
        not_named: Gauge,
        *,
        worst_is_least: bool = False,
        do: str = "",
    ) -> WorstSellers:
        """Enter a gauge by seller and make it."""
        gauge = self.gauge(name, meaning, unit, [SELLER_ID], do=do)
        return WorstSellers(gauge, not_named.labels(name), worst_is_least=worst_is_least)

    def histogram(
        self,
        name: str,
        meaning: str,
        unit: Unit,
        labels: Sequence[Label] = (),
        *,
        buckets: Sequence[float] = Histogram.DEFAULT_BUCKETS,
        do: str = "",
    ) -> Histogram:
        """Enter a histogram and make it."""
        self._enter(CataloguedMetric(name, MetricKind.HISTOGRAM, unit, tuple(labels), meaning, do))
        return Histogram(name, meaning, [label.name for label in labels], buckets=buckets)

    def _enter(self, metric: CataloguedMetric) -> None:
        if problem := broken_convention(metric):
            raise ValueError(f"{metric.name}: {problem}")
        self.metrics.append(metric)


_SECTIONS: Final[list[Section]] = []


def sections() -> Sequence[Section]:
    """All sections, in the order of the page; complete once `topsync.base.metrics` is imported."""
    return _SECTIONS


def broken_convention(metric: CataloguedMetric) -> str | None:
    """Which convention a name breaks (prometheus.io/docs/practices/naming); None: none. Pure."""
    name = metric.name
    if not name.startswith(PREFIX):
        return f"a name begins with {PREFIX}"
    if (metric.kind is MetricKind.COUNTER) != name.endswith("_total"):
        return "a counter ends with _total, and nothing else does"
    stem = name.removesuffix("_total")
    for unit in BASE_UNITS:
        if (metric.unit == unit) != stem.endswith(f"_{unit}"):
            return f"what is in {unit} has that at the end of its name, and nothing else does"
    if any(label.most < 1 for label in metric.labels):
        return "a label has a bound on its values"
    return None


def entered() -> dict[str, CataloguedMetric]:
    """The whole catalogue, by name."""
    return {metric.name: metric for section in _SECTIONS for metric in section.metrics}


def reference_page() -> str:
    """The reference page of all metrics, in Markdown."""
    lines = [
        "# Metrics",
        "",
        "Generated by `topsync metrics --markdown` from `topsync/base/metrics.py`; do not edit by hand.",
        "Each process serves them on `/metrics` (`TOPSYNC_TELEMETRY_PORT`). What is *of the installation* is",
        "shown by the reconciler that measures it, so ask for `max(…)`; everything else is of the process",
        "that shows it, so ask for `sum(…)`. A counter begins anew with its process: ask for `rate(…)` or",
        f"`increase(…)`. A metric by seller names {WORST} sellers at most, the worst ones;",
        "`topsync_sellers_not_named` says how many others it does not name. No label holds a nick, an",
        "order's number or anything of a buyer.",
    ]
    for section in _SECTIONS:
        if not section.metrics:
            continue
        lines += ["", f"## {section.title}", ""]
        lines += ["| metric | kind, unit | meaning | what to do |", "| --- | --- | --- | --- |"]
        lines += [_row(metric) for metric in section.metrics]
    lines += ["", "## Labels", "", "| label | of | values | at most |", "| --- | --- | --- | --- |"]
    for (name, values, most), users in sorted(_label_users().items()):
        lines.append(f"| `{name}` | {', '.join(f'`{user}`' for user in users)} | {values} | {most} |")
    return "\n".join(lines) + "\n"


def _row(metric: CataloguedMetric) -> str:
    labels = f"{{{', '.join(label.name for label in metric.labels)}}}" if metric.labels else ""
    return f"| `{metric.name}{labels}` | {metric.kind}, {metric.unit} | {metric.meaning} | {metric.do} |"


def _label_users() -> dict[tuple[str, str, int], list[str]]:
    users: dict[tuple[str, str, int], list[str]] = {}
    for metric in entered().values():
        for label in metric.labels:
            users.setdefault((label.name, label.values, label.most), []).append(metric.name)
    return users
