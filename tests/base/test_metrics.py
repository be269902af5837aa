"""The catalogue of metrics: every metric is in it, keeps the conventions, and cannot grow without a bound."""

from __future__ import annotations

import re

import pytest
from prometheus_client import REGISTRY, Gauge

from tests.support import pages
from tests.support.places import ROOT
from topsync.base import metric_catalogue, metrics
from topsync.base.metric_catalogue import (
    WORST,
    CataloguedMetric,
    Label,
    MeasuredGauge,
    MetricKind,
    WorstSellers,
    broken_convention,
)

PRODUCT = ("topsync", "consumer", "bootstrap", "reconciler")
KNOW_THE_CLIENT = {
    "topsync/base/metric_catalogue.py",
    "topsync/base/telemetry.py",
    "topsync/local/demo/page/readings.py",
}
"""The only modules that know the client: one makes the metrics, one serves them, and one reads them again."""

MOST_SERIES = 2000
"""Of one metric in one process; Prometheus keeps each in memory."""


def test_the_committed_reference_page_is_the_generated_one() -> None:
    """`python -m topsync metrics --markdown > docs/reference/metrics.md` writes it."""
    assert pages.read("docs/reference/metrics.md") == metrics.reference_page()


def test_every_metric_that_a_process_shows_is_in_the_catalogue_and_the_other_way_round() -> None:
    made = {
        name
        for name in REGISTRY._names_to_collectors
        if name.startswith("topsync_") and not name.endswith(("_created", "_bucket", "_sum", "_count"))
    }
    entered = set(metrics.entered())
    # The client also knows a counter by its name without `_total`.
    assert made - entered - {name.removesuffix("_total") for name in entered} == set()
    assert entered - made == set()


def test_nobody_makes_a_metric_beside_the_catalogue() -> None:
    knowing = {
        str(path.relative_to(ROOT))
        for folder in PRODUCT
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(from|import) prometheus_client", path.read_text("utf-8"), re.MULTILINE)
    }
    assert knowing == KNOW_THE_CLIENT


def test_each_label_has_a_bound_and_no_metric_can_have_many_series() -> None:
    for metric in metrics.entered().values():
        assert metric.most_series <= MOST_SERIES, metric.name
        for label in metric.labels:
            assert label.name not in {"nick", "tid", "refund_id", "buyer", "receiver"}, metric.name
            assert label.values


@pytest.mark.parametrize(
    ("name", "kind", "unit", "most"),
    [
        ("orders_total", MetricKind.COUNTER, "orders", 1),
        ("topsync_orders", MetricKind.COUNTER, "orders", 1),
        ("topsync_orders_total", MetricKind.GAUGE, "orders", 1),
        ("topsync_seconds_left", MetricKind.GAUGE, "seconds", 1),
        ("topsync_age_seconds", MetricKind.GAUGE, "days", 1),
        ("topsync_bytes_read_total", MetricKind.COUNTER, "bytes", 1),
        ("topsync_orders_total", MetricKind.COUNTER, "orders", 0),
    ],
)
def test_a_name_that_breaks_the_conventions_is_refused(
    name: str, kind: MetricKind, unit: metric_catalogue.Unit, most: int
) -> None:
    labels = [Label("reason", "reasons", most)]
    assert broken_convention(CataloguedMetric(name, kind, unit, labels, "", "")) is not None


@pytest.fixture
def by_seller() -> WorstSellers:
    gauge = Gauge("test_age_seconds", "an age", ["seller_id"], registry=None)
    not_named = Gauge("test_not_named", "the others", registry=None)
    return WorstSellers(gauge, not_named)


def shown(by: WorstSellers) -> dict[str, float]:
    return {sample.labels["seller_id"]: sample.value for m in by.gauge.collect() for sample in m.samples}


def test_a_metric_by_seller_names_the_worst_hundred_and_counts_the_others(by_seller: WorstSellers) -> None:
    by_seller.show({seller: float(seller) for seller in range(1, 501)})
    named = shown(by_seller)
    assert len(named) == WORST
    assert min(named.values()) == 401
    assert by_seller.not_named._value.get() == 400


def test_a_seller_that_is_no_longer_among_the_worst_is_not_shown_any_more(by_seller: WorstSellers) -> None:
    by_seller.show({1: 5.0})
    by_seller.show({2: 7.0})
    assert shown(by_seller) == {"2": 7.0}
    by_seller.forget()
    assert shown(by_seller) == {}


def test_for_what_runs_out_the_worst_are_the_least() -> None:
    by = WorstSellers(
        Gauge("test_left_seconds", "left", ["seller_id"], registry=None),
        Gauge("test_not_named", "the others", registry=None),
        worst_is_least=True,
    )
    by.show({seller: float(seller) for seller in range(1, 501)})
    assert max(shown(by).values()) == 100


def test_a_gauge_of_the_installation_is_shown_only_by_who_has_measured_it() -> None:
    gauge = MeasuredGauge("test_lag_records", "a lag", registry=None)
    assert list(gauge.collect()) == []
    gauge.set(3)
    [metric] = gauge.collect()
    assert [sample.value for sample in metric.samples] == [3]
    gauge.forget()
    assert list(gauge.collect()) == []
