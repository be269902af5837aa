"""A query's answer from readings of our own is Prometheus's answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.support.metric_names import promtool
from topsync.base import metrics, panels
from topsync.base.metric_catalogue import MetricKind
from topsync.base.metric_queries import RATE_SPAN, Labels, LatestValue, MetricQuery, quantile
from topsync.local.demo.page.readings import RATE_SECONDS, MetricReading, ReadingRing

SECONDS = 10
"""How long is read, once a second: no longer than rates are measured, so that both see the same."""

BEGAN = 0


@dataclass(frozen=True)
class Series:
    """A series with the value of each second."""

    metric: str
    labels: Labels
    values: list[float]

    @property
    def name(self) -> str:
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels)
        return f"{self.metric}{{{labels}}}"


def every_series() -> list[Series]:
    """Series for all metrics of the panels: of two processes, and for two values of each label."""
    made = []
    known = metrics.entered()
    for number, metric in enumerate(sorted(known)):
        entry = known[metric]
        for process in ("push", "reconcile"):
            names = [label.name for label in entry.labels]
            for value in ("left", "orders") if names else ("",):
                labels = {"instance": process} | dict.fromkeys(names, value)
                rise = 1 + (number * 7 + len(process) + len(value)) % 5
                if entry.kind is MetricKind.HISTOGRAM:
                    made += _buckets(metric, labels, rise)
                elif entry.kind is MetricKind.COUNTER:
                    made.append(_series(metric, labels, [float(rise * at) for at in range(SECONDS + 1)]))
                else:
                    made.append(_series(metric, labels, [float(number + rise)] * (SECONDS + 1)))
    return made


def _series(metric: str, labels: Mapping[str, str], values: list[float]) -> Series:
    return Series(metric, tuple(sorted(labels.items())), values)


def _buckets(metric: str, labels: Mapping[str, str], rise: int) -> list[Series]:
    bounds = {"0.1": 1, "0.5": 1 + rise, "2.0": 4 + rise, "+Inf": 4 + 2 * rise}
    return [
        _series(f"{metric}_bucket", {**labels, "le": bound}, [float(count * at) for at in range(SECONDS + 1)])
        for bound, count in bounds.items()
    ]


def readings(series: list[Series]) -> ReadingRing:
    """What the page would have read of these series."""
    ring = ReadingRing()
    for at in range(SECONDS + 1):
        values: dict[str, dict[Labels, float]] = {}
        for each in series:
            values.setdefault(each.metric, {})[each.labels] = each.values[at]
        ring.add(MetricReading(float(BEGAN + at), {"all": values}))
    return ring


def queries() -> list[MetricQuery]:
    return [query.asks for row in panels.ROWS for panel in row.panels for query in panel.queries]


def test_prometheus_gives_the_same_answer_to_every_query_of_the_panels(tmp_path: Path) -> None:
    """`promtool test rules` asks Prometheus itself: 10 s of every metric, two processes, two labels."""
    series = every_series()
    ring = readings(series)
    answers = {query.promql: query.answer(ring) for query in queries()}
    asked = [
        {
            "expr": promql.replace(RATE_SPAN, f"{RATE_SECONDS:g}s"),
            "eval_time": f"{SECONDS}s",
            "exp_samples": [
                {"labels": _as_labels(labels), "value": value} for labels, value in answer.items()
            ],
        }
        for promql, answer in answers.items()
    ]
    inputs = [
        {"series": each.name, "values": " ".join(f"{value:g}" for value in each.values)} for each in series
    ]
    tests = [{"interval": "1s", "input_series": inputs, "promql_expr_test": asked}]
    file = tmp_path / "queries.json"
    file.write_text(json.dumps({"evaluation_interval": "1s", "tests": tests}))
    promtool("test", "rules", str(file))


def _as_labels(labels: Labels) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels) + "}"


def test_every_query_of_the_panels_has_an_answer_where_every_metric_is_shown() -> None:
    ring = readings(every_series())
    unanswered = [query.promql for query in queries() if not query.answer(ring)]
    assert unanswered == []


def test_a_counter_that_begins_anew_has_not_fallen() -> None:
    values = [5.0, 7.0, 1.0, 2.0]
    ring = ReadingRing()
    for at, value in enumerate(values):
        ring.add(MetricReading(float(at), {"enrich": {"calls": {(): value}}}))
    assert ring.increases("calls", 60) == {(): 4.0}
    assert ring.rates("calls") == {(): 4.0 / 3}


def test_a_rate_looks_back_over_its_span_alone() -> None:
    ring = ReadingRing()
    for at in range(60):
        ring.add(MetricReading(float(at), {"enrich": {"calls": {(): float(max(0, at - 40) * 3)}}}))
    assert ring.rates("calls") == {(): 3.0}
    assert ring.increases("calls", 3600) == {(): 57.0}


def test_a_process_that_does_not_answer_shows_nothing_now() -> None:
    ring = ReadingRing()
    ring.add(MetricReading(1.0, {"push": {"up": {(("instance", "push"),): 1.0}}}))
    ring.add(MetricReading(2.0, {}))
    assert LatestValue("up").answer(ring) == {}


@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=8),
    st.sampled_from((0.5, 0.9, 0.99)),
)
def test_a_quantile_lies_between_the_bounds_of_the_bucket_that_holds_it(
    counts: list[int], share: float
) -> None:
    bounds = [float(2**at) for at in range(len(counts) - 1)]
    totals = [float(sum(counts[: at + 1])) for at in range(len(counts))]
    found = quantile(share, zip([*bounds, math.inf], totals, strict=True))
    if not totals[-1]:
        assert found is None
        return
    assert found is not None
    at = next(at for at, total in enumerate(totals) if total >= share * totals[-1])
    low = bounds[at - 1] if at else 0.0
    assert low <= found <= (bounds[at] if at < len(bounds) else bounds[-1])
