"""The dashboard for Grafana, made from code so that it names only metrics that exist. Pure.

Its first row answers what somebody who was woken asks: is anything missing, for whom, since when, is it
getting better? The rows below follow a change on its way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import orjson

from topsync.model.kind import PARTS, Kind

COLUMNS: Final = 24
"""Grafana's grid."""
HEIGHT: Final = 7

PanelKind = Literal["stat", "timeseries", "table"]
Unit = Literal["short", "s", "bytes", "percentunit", "cps", "dateTimeAsIso"]

_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

AGE: Final = "max by (seller_id) (topsync_complete_until_age_seconds)"
LATE: Final = f"{AGE} > scalar(max(topsync_complete_until_late_after_seconds))"


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """What is asked of Prometheus, and what its lines are called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel. A `stat` whose value is above 0 is red."""

    title: str
    kind: PanelKind
    queries: Sequence[PanelQuery]
    unit: Unit = "short"
    columns: int = 8
    about: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of panels with a question or a subject."""

    title: str
    panels: Sequence[Panel]


def _quantiles(metric: str, by: str = "") -> list[PanelQuery]:
    also = f", {by}" if by else ""
    name = f" {{{{{by}}}}}" if by else ""
    return [
        PanelQuery(
            f"histogram_quantile({share}, sum by (le{also}) (rate({metric}_bucket[$__rate_interval])))",
            f"p{share * 100:g}{name}",
        )
        for share in ((0.99,) if by else (0.5, 0.99))
    ]


def _rate(metric: str, by: str) -> PanelQuery:
    return PanelQuery(f"sum by ({by}) (rate({metric}[$__rate_interval]))", f"{{{{{by}}}}}")


ROWS: Final = (
    Row(
        "Is anything missing, for whom, since when, is it getting better?",
        (
            Panel("Copies that are late", "stat", [PanelQuery(f"count({LATE}) or vector(0)")], columns=4),
            Panel(
                "Differences that the last night left",
                "stat",
                [
                    PanelQuery(
                        'sum(max by (difference) (topsync_last_comparison_differences{outcome="left"}))'
                    )
                ],
                columns=5,
            ),
            Panel(
                "Steps back that the witness saw",
                "stat",
                [PanelQuery("sum(max by (topic) (topsync_witness_findings))")],
                columns=5,
            ),
            Panel(
                "Topics that lost records",
                "stat",
                [PanelQuery("sum(max by (topic) (topsync_topic_lost)) or vector(0)")],
                columns=5,
            ),
            Panel(
                "Seconds since it was measured",
                "stat",
                [PanelQuery("time() - max(topsync_measured_timestamp_seconds)")],
                unit="s",
                columns=5,
                about="More than a minute or two: everything in this row is old (TopsyncNotMeasured).",
            ),
            Panel(
                "For whom, and since when",
                "table",
                [
                    PanelQuery(f"1000 * (time() - topk(20, {AGE}))"),  # Grafana counts in milliseconds
                    PanelQuery(f"topk(20, {AGE})"),
                ],
                unit="dateTimeAsIso",
                columns=12,
                about="The twenty oldest copies: complete until, and how old that is.",
            ),
            Panel(
                "Is it getting better?",
                "timeseries",
                [
                    PanelQuery("max(topsync_complete_until_age_seconds)", "the oldest copy"),
                    PanelQuery("max(topsync_complete_until_late_after_seconds)", "late from here on"),
                ],
                unit="s",
                columns=6,
            ),
            Panel(
                "Holes, gaps, orders that wait",
                "timeseries",
                [
                    PanelQuery("sum(topsync_complete_until_holes) or vector(0)", "holes"),
                    PanelQuery("sum(topsync_gaps_open)", "gaps"),
                    PanelQuery("sum(max by (reason) (topsync_refetches_waiting))", "orders asked for again"),
                ],
                columns=6,
            ),
        ),
    ),
    Row(
        "Freshness by stage",
        (
            Panel("Message to published order", "timeseries", _quantiles("topsync_freshness_seconds"), "s"),
            Panel(
                "By the stage that ends, p99",
                "timeseries",
                _quantiles("topsync_freshness_stage_seconds", "stage"),
                "s",
            ),
            *(
                Panel(
                    f"Message to published {kind}",
                    "timeseries",
                    _quantiles(f"topsync_{kind}_freshness_seconds"),
                    "s",
                )
                for kind in PARTS
            ),
        ),
    ),
    Row(
        "Budget",
        (
            Panel(
                "Calls a second, and the limit",
                "timeseries",
                [
                    _rate("topsync_api_calls_total", "priority"),
                    PanelQuery("max(topsync_calls_per_second_limit)", "limit"),
                ],
                "cps",
            ),
            Panel(
                "Calls left today",
                "timeseries",
                [PanelQuery("min by (priority) (topsync_calls_left_today)", "{{priority}}")],
            ),
            Panel(
                "Calls used today",
                "timeseries",
                [PanelQuery("max by (priority) (topsync_calls_used_today)", "{{priority}}")],
            ),
            Panel(
                "Closed by the platform",
                "timeseries",
                [PanelQuery("max by (scope) (topsync_ban_left_seconds)", "{{scope}}")],
                "s",
            ),
            Panel("Outcomes", "timeseries", [_rate("topsync_api_calls_total", "outcome")], "cps"),
            Panel(
                "Circuits that are open",
                "timeseries",
                [PanelQuery("max by (scope) (topsync_circuits_open)", "{{scope}}")],
            ),
        ),
    ),
    Row(
        "Messages",
        (
            Panel(
                "Connections",
                "timeseries",
                [PanelQuery("sum by (state) (topsync_push_connections)", "{{state}}")],
            ),
            Panel(
                "Received and confirmed",
                "timeseries",
                [
                    PanelQuery("sum(rate(topsync_push_received_total[$__rate_interval]))", "received"),
                    PanelQuery("sum(rate(topsync_push_confirmed_total[$__rate_interval]))", "confirmed"),
                ],
                "cps",
            ),
            Panel(
                "Not confirmed yet",
                "timeseries",
                [PanelQuery("sum(topsync_push_unconfirmed_bytes)", "bytes")],
                "bytes",
            ),
        ),
    ),
    Row(
        "Enrichers",
        (
            Panel(
                "How long the oldest record has waited",
                "timeseries",
                [PanelQuery("max by (topic) (topsync_lag_seconds)", "{{topic}}")],
                "s",
            ),
            Panel(
                "Records that wait",
                "timeseries",
                [PanelQuery("max by (topic) (topsync_lag_records)", "{{topic}}")],
            ),
            Panel(
                "Published a second",
                "timeseries",
                [
                    PanelQuery(
                        f"sum(rate(topsync_{kind.plural}_published_total[$__rate_interval]))", kind.plural
                    )
                    for kind in Kind
                ],
                "cps",
            ),
            Panel(
                "Dead letters in an hour",
                "timeseries",
                [PanelQuery("sum by (reason) (increase(topsync_dead_letters_total[1h])) > 0", "{{reason}}")],
            ),
            Panel(
                "Writers that began anew in an hour",
                "timeseries",
                [PanelQuery("sum(increase(topsync_writer_restarts_total[1h]))", "restarts")],
            ),
            Panel(
                "Partitions owned",
                "timeseries",
                [PanelQuery("sum(topsync_partitions_owned)", "partitions")],
            ),
        ),
    ),
    Row(
        "Bulk starts",
        (
            Panel(
                "Sellers under way",
                "timeseries",
                [PanelQuery("max(topsync_bulk_starts_under_way)", "sellers")],
            ),
            Panel(
                "Slices, by how far they are",
                "timeseries",
                [PanelQuery("max by (state) (topsync_bulk_start_slices)", "{{state}}")],
            ),
            Panel(
                "Room for exports",
                "timeseries",
                [
                    PanelQuery(
                        "min(topsync_bulk_start_disk_free_bytes / topsync_bulk_start_disk_bytes)", "free"
                    )
                ],
                "percentunit",
            ),
        ),
    ),
    Row(
        "Health of what topsync stands on",
        (
            Panel(
                "Processes",
                "timeseries",
                [PanelQuery("count by (process, release) (topsync_build_info)", "{{process}} {{release}}")],
            ),
            Panel(
                "Away",
                "timeseries",
                [
                    PanelQuery("sum(topsync_database_away)", "processes without the database"),
                    PanelQuery("max(topsync_kafka_away)", "Kafka"),
                ],
            ),
            Panel(
                "Sessions that end first",
                "timeseries",
                [
                    PanelQuery(
                        "bottomk(10, min by (seller_id) (topsync_session_left_seconds))", "{{seller_id}}"
                    )
                ],
                "s",
            ),
        ),
    ),
)


def document() -> str:
    """The dashboard as Grafana reads it, in JSON."""
    panels: list[dict[str, object]] = []
    top = 0
    for row in ROWS:
        panels.append(
            {
                "type": "row",
                "id": len(panels) + 1,
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
                "panels": [],
            }
        )
        top += 1
        left = 0
        for panel in row.panels:
            if left + panel.columns > COLUMNS:
                left, top = 0, top + HEIGHT
            place = {"x": left, "y": top, "w": panel.columns, "h": HEIGHT}
            panels.append(_panel(panel, len(panels) + 1, place))
            left += panel.columns
        top += HEIGHT
    made = {
        "title": "topsync",
        "uid": "topsync",
        "schemaVersion": 39,
        "tags": ["topsync"],
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }
    return orjson.dumps(made, option=orjson.OPT_INDENT_2).decode() + "\n"


def expressions() -> Iterator[str]:
    """Every expression that the dashboard asks for."""
    for row in ROWS:
        for panel in row.panels:
            for query in panel.queries:
                yield query.expression


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, object]:
    defaults: dict[str, object] = {"unit": panel.unit}
    made: dict[str, object] = {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _DATASOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
                "instant": panel.kind != "timeseries",
                "range": panel.kind == "timeseries",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for at, query in enumerate(panel.queries)
        ],
    }
    if panel.kind == "stat":
        red_from = 120 if panel.unit == "s" else 1
        steps = [{"color": "green", "value": None}, {"color": "red", "value": red_from}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        made["options"] = {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}}
    overrides: list[dict[str, object]] = []
    if panel.kind == "table":
        made["transformations"] = [{"id": "merge", "options": {}}, _columns()]
        age: dict[str, object] = {
            "matcher": {"id": "byName", "options": "age"},
            "properties": [{"id": "unit", "value": "s"}],
        }
        overrides.append(age)
    made["fieldConfig"] = {"defaults": defaults, "overrides": overrides}
    return made


def _columns() -> dict[str, object]:
    """Names for the columns of the table of sellers, which Grafana calls by the queries' letters."""
    names = {"seller_id": "seller", "Value #A": "complete until", "Value #B": "age"}
    return {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}}
