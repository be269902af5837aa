"""The panels that show how topsync is doing: for Grafana, and for the page of the demo. Pure.

The first row answers what somebody who was woken asks: is anything missing, for whom, since when, is it
getting better? The rows below follow a change on its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from topsync.base.metric_queries import (
    Above,
    AboveZero,
    Extremes,
    Fold,
    Increase,
    LatestValue,
    MetricQuery,
    OrZero,
    Quantile,
    RatePerSecond,
    Ratio,
    Since,
)
from topsync.model.kind import PARTS, Kind

PanelKind = Literal["stat", "timeseries", "table"]
PanelUnit = Literal["short", "s", "bytes", "percentunit", "cps", "dateTimeAsIso"]

WRONG_FROM_SECONDS: Final = 120
"""A `stat` in seconds is wrong from here on; any other from 1 on."""

OLDEST_SHOWN: Final = 20

# What the first row asks. The page of the demo says the answers in words.
AGES: Final = Fold("max", LatestValue("topsync_complete_until_age_seconds"), ("seller_id",))
"""How old each copy is."""
OLDEST: Final = Fold("max", LatestValue("topsync_complete_until_age_seconds"))
LATE_AFTER: Final = Fold("max", LatestValue("topsync_complete_until_late_after_seconds"))
LATE: Final = Above(AGES, LATE_AFTER)
LATE_COUNT: Final = OrZero(Fold("count", LATE))
DIFFERENCES_LEFT: Final = Fold(
    "sum",
    Fold("max", LatestValue("topsync_last_comparison_differences", (("outcome", "left"),)), ("difference",)),
)
STEPS_BACK: Final = Fold("sum", Fold("max", LatestValue("topsync_witness_findings"), ("topic",)))
TOPICS_LOST: Final = OrZero(Fold("sum", Fold("max", LatestValue("topsync_topic_lost"), ("topic",))))
MEASURED_AGO: Final = Since(Fold("max", LatestValue("topsync_measured_timestamp_seconds")))
HOLES: Final = OrZero(Fold("sum", LatestValue("topsync_complete_until_holes")))
GAPS: Final = Fold("sum", LatestValue("topsync_gaps_open"))
OLDEST_COPIES: Final = Extremes("topk", OLDEST_SHOWN, AGES)
BULK_STARTS: Final = Fold("max", LatestValue("topsync_bulk_starts_under_way"))


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """What is asked, and what its lines are called: `{{label}}` stands for a label's value."""

    asks: MetricQuery
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel."""

    title: str
    kind: PanelKind
    queries: Sequence[PanelQuery]
    unit: PanelUnit = "short"
    columns: int = 8
    """Its width, of 24."""
    about: str = ""

    @property
    def wrong_from(self) -> float:
        """From which value on a `stat` is wrong."""
        return WRONG_FROM_SECONDS if self.unit == "s" else 1


@dataclass(frozen=True, slots=True)
class Row:
    """A row of panels with a question or a subject."""

    title: str
    panels: Sequence[Panel]


def _quantiles(metric: str, by: str = "") -> list[PanelQuery]:
    name = f" {{{{{by}}}}}" if by else ""
    return [
        PanelQuery(Quantile(share, metric, (by,) if by else ()), f"p{share * 100:g}{name}")
        for share in ((0.99,) if by else (0.5, 0.99))
    ]


def _rate(metric: str, by: str) -> PanelQuery:
    return PanelQuery(Fold("sum", RatePerSecond(metric), (by,)), f"{{{{{by}}}}}")


ROWS: Final = (
    Row(
        "Is anything missing, for whom, since when, is it getting better?",
        (
            Panel("Copies that are late", "stat", [PanelQuery(LATE_COUNT)], columns=4),
            Panel(
                "Differences that the last night left",
                "stat",
                [PanelQuery(DIFFERENCES_LEFT)],
                columns=5,
            ),
            Panel(
                "Steps back that the witness saw",
                "stat",
                [PanelQuery(STEPS_BACK)],
                columns=5,
            ),
            Panel(
                "Topics that lost records",
                "stat",
                [PanelQuery(TOPICS_LOST)],
                columns=5,
            ),
            Panel(
                "Seconds since it was measured",
                "stat",
                [PanelQuery(MEASURED_AGO)],
                unit="s",
                columns=5,
                about="More than a minute or two: everything in this row is old (TopsyncNotMeasured).",
            ),
            Panel(
                "For whom, and since when",
                "table",
                [
                    PanelQuery(Since(OLDEST_COPIES)),
                    PanelQuery(OLDEST_COPIES),
                ],
                unit="dateTimeAsIso",
                columns=12,
                about="The twenty oldest copies: complete until, and how old that is.",
            ),
            Panel(
                "Is it getting better?",
                "timeseries",
                [
                    PanelQuery(OLDEST, "the oldest copy"),
                    PanelQuery(LATE_AFTER, "late from here on"),
                ],
                unit="s",
                columns=6,
            ),
            Panel(
                "Holes, gaps, orders that wait",
                "timeseries",
                [
                    PanelQuery(HOLES, "holes"),
                    PanelQuery(GAPS, "gaps"),
                    PanelQuery(
                        Fold("sum", Fold("max", LatestValue("topsync_refetches_waiting"), ("reason",))),
                        "orders asked for again",
                    ),
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
                    PanelQuery(Fold("max", LatestValue("topsync_calls_per_second_limit")), "limit"),
                ],
                "cps",
            ),
            Panel(
                "Calls left today",
                "timeseries",
                [
                    PanelQuery(
                        Fold("min", LatestValue("topsync_calls_left_today"), ("priority",)), "{{priority}}"
                    )
                ],
            ),
            Panel(
                "Calls used today",
                "timeseries",
                [
                    PanelQuery(
                        Fold("max", LatestValue("topsync_calls_used_today"), ("priority",)), "{{priority}}"
                    )
                ],
            ),
            Panel(
                "Closed by the platform",
                "timeseries",
                [PanelQuery(Fold("max", LatestValue("topsync_ban_left_seconds"), ("scope",)), "{{scope}}")],
                "s",
            ),
            Panel("Outcomes", "timeseries", [_rate("topsync_api_calls_total", "outcome")], "cps"),
            Panel(
                "Circuits that are open",
                "timeseries",
                [PanelQuery(Fold("max", LatestValue("topsync_circuits_open"), ("scope",)), "{{scope}}")],
            ),
        ),
    ),
    Row(
        "Messages",
        (
            Panel(
                "Connections",
                "timeseries",
                [PanelQuery(Fold("sum", LatestValue("topsync_push_connections"), ("state",)), "{{state}}")],
            ),
            Panel(
                "Received and confirmed",
                "timeseries",
                [
                    PanelQuery(Fold("sum", RatePerSecond("topsync_push_received_total")), "received"),
                    PanelQuery(Fold("sum", RatePerSecond("topsync_push_confirmed_total")), "confirmed"),
                ],
                "cps",
            ),
            Panel(
                "Not confirmed yet",
                "timeseries",
                [PanelQuery(Fold("sum", LatestValue("topsync_push_unconfirmed_bytes")), "bytes")],
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
                [PanelQuery(Fold("max", LatestValue("topsync_lag_seconds"), ("topic",)), "{{topic}}")],
                "s",
            ),
            Panel(
                "Records that wait",
                "timeseries",
                [PanelQuery(Fold("max", LatestValue("topsync_lag_records"), ("topic",)), "{{topic}}")],
            ),
            Panel(
                "Published a second",
                "timeseries",
                [
                    PanelQuery(
                        Fold("sum", RatePerSecond(f"topsync_{kind.plural}_published_total")), kind.plural
                    )
                    for kind in Kind
                ],
                "cps",
            ),
            Panel(
                "Dead letters in an hour",
                "timeseries",
                [
                    PanelQuery(
                        AboveZero(Fold("sum", Increase("topsync_dead_letters_total"), ("reason",))),
                        "{{reason}}",
                    )
                ],
            ),
            Panel(
                "Writers that began anew in an hour",
                "timeseries",
                [PanelQuery(Fold("sum", Increase("topsync_writer_restarts_total")), "restarts")],
            ),
            Panel(
                "Partitions owned",
                "timeseries",
                [PanelQuery(Fold("sum", LatestValue("topsync_partitions_owned")), "partitions")],
            ),
        ),
    ),
    Row(
        "Bulk starts",
        (
            Panel(
                "Sellers under way",
                "timeseries",
                [PanelQuery(BULK_STARTS, "sellers")],
            ),
            Panel(
                "Slices, by how far they are",
                "timeseries",
                [PanelQuery(Fold("max", LatestValue("topsync_bulk_start_slices"), ("state",)), "{{state}}")],
            ),
            Panel(
                "Room for exports",
                "timeseries",
                [
                    PanelQuery(
                        Fold(
                            "min",
                            Ratio(
                                LatestValue("topsync_bulk_start_disk_free_bytes"),
                                LatestValue("topsync_bulk_start_disk_bytes"),
                            ),
                        ),
                        "free",
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
                [
                    PanelQuery(
                        Fold(
                            "count",
                            LatestValue("topsync_build_info"),
                            (
                                "process",
                                "release",
                            ),
                        ),
                        "{{process}} {{release}}",
                    )
                ],
            ),
            Panel(
                "Away",
                "timeseries",
                [
                    PanelQuery(
                        Fold("sum", LatestValue("topsync_database_away")), "processes without the database"
                    ),
                    PanelQuery(Fold("max", LatestValue("topsync_kafka_away")), "Kafka"),
                ],
            ),
            Panel(
                "Sessions that end first",
                "timeseries",
                [
                    PanelQuery(
                        Extremes(
                            "bottomk",
                            10,
                            Fold("min", LatestValue("topsync_session_left_seconds"), ("seller_id",)),
                        ),
                        "{{seller_id}}",
                    )
                ],
                "s",
            ),
        ),
    ),
)
