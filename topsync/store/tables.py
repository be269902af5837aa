"""Every table: what it grows with, and why its rows stay or when they go.

A new table has an entry here, or `tests/store/test_tables.py` fails. What goes by age is deleted by
`topsync.store.retention`, whose statements have the names of the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from topsync.model.kind import Kind
from topsync.model.retention import Period


class GrowsWith(StrEnum):
    """What makes a table larger."""

    NOTHING = "nothing"
    """The number of its rows is fixed: partitions, topics, limits of calls, migrations."""
    SELLERS = "sellers"
    """A few rows for each seller, however long it stays."""
    ORDERS = "orders"
    BULK_STARTS = "bulk starts"
    WORK = "work under way"
    """Rows go when what they stand for is done."""
    PULLS = "pulls"
    LOSSES = "losses of push"
    REQUESTS = "requests"
    """Of operators and subscribers."""
    DAYS = "days"
    FAULTS = "faults"
    """What went wrong, and is to be looked at."""


@dataclass(frozen=True, slots=True)
class Stays:
    """Nobody deletes rows of the table because they are old."""

    because: str


@dataclass(frozen=True, slots=True)
class Goes:
    """The reconciler deletes rows of the table that are older than a period."""

    period: Period
    by: str
    """What a row's age is counted from, in SQL. Compared with the earlier of the two clocks."""
    unless: str = ""
    """Which rows stay, however old."""


@dataclass(frozen=True, slots=True)
class TableGrowth:
    """What is decided about a table."""

    grows_with: GrowsWith
    rows: Stays | Goes
    is_large: bool = False
    """Whether it has so many rows, at 3,000 sellers, that no statement may read all of them."""


_CERTIFIED: Final = Stays("a certificate speaks of it, and is checked against it for years")
_FORMER_RELEASE: Final = Stays(
    "a process of the former release may go on with a bulk start in it; the next release drops it"
)

TABLES: Final[Mapping[str, TableGrowth]] = {
    **{
        kind.plural: TableGrowth(
            GrowsWith.ORDERS, Stays("it is what topsync is there to keep"), is_large=True
        )
        for kind in Kind
    },
    "tombstones": TableGrowth(
        GrowsWith.WORK, Stays("each goes when its topic has it, and not before"), is_large=True
    ),
    "partition_owners": TableGrowth(GrowsWith.NOTHING, Stays("a row for each partition")),
    "sellers": TableGrowth(
        GrowsWith.SELLERS, Stays("an erased seller keeps its row, so that nothing of it is written again")
    ),
    "erasures": TableGrowth(GrowsWith.SELLERS, Stays("the proof that the seller was erased, and when")),
    "session_warnings": TableGrowth(
        GrowsWith.SELLERS, Goes(Period.WARNINGS, "given_at", "the session is the seller's")
    ),
    "reconcilers": TableGrowth(GrowsWith.WORK, Stays("each goes when its process has ended")),
    "work_leases": TableGrowth(
        GrowsWith.SELLERS, Stays("a counter that began anew could let a former holder write")
    ),
    "coverage": TableGrowth(GrowsWith.SELLERS, Stays("what is proven, a row for each seller")),
    "windows": TableGrowth(
        GrowsWith.PULLS,
        Goes(Period.WINDOWS, "pulled_at", "its seller is being erased, which takes them all"),
        is_large=True,
    ),
    "window_days": TableGrowth(GrowsWith.DAYS, Goes(Period.WINDOW_SUMS, "day"), is_large=True),
    "visibility": TableGrowth(GrowsWith.NOTHING, Stays("a single row")),
    "visibility_changes": TableGrowth(
        GrowsWith.FAULTS, Goes(Period.REPORTS, "at", "its notification is not out yet")
    ),
    "last_lists": TableGrowth(
        GrowsWith.SELLERS, Stays("a row for each seller and list, with some hours of ids")
    ),
    "arrivals": TableGrowth(GrowsWith.DAYS, Goes(Period.CALL_COUNTS, "hour")),
    "gaps": TableGrowth(GrowsWith.LOSSES, Goes(Period.GAPS, "closed_at", "it is open"), is_large=True),
    "push_connections": TableGrowth(
        GrowsWith.LOSSES,
        Goes(
            Period.GAPS,
            "lost_at",
            "it is up, has still to open its gaps, a gap refers to it, or `status` names it as the last",
        ),
    ),
    "replays": TableGrowth(GrowsWith.REQUESTS, Goes(Period.JOBS, "finished_at", "it has not ended")),
    "replay_pieces": TableGrowth(GrowsWith.REQUESTS, Stays("each goes with its replay"), is_large=True),
    "republications": TableGrowth(
        GrowsWith.REQUESTS, Goes(Period.JOBS, "coalesce(finished_at, cancelled_at)", "it has not ended")
    ),
    "republication_parts": TableGrowth(GrowsWith.REQUESTS, Stays("each goes with its republication")),
    "comparisons": TableGrowth(
        GrowsWith.SELLERS, Stays("each goes when the platform no longer lists its day")
    ),
    "differences": TableGrowth(
        GrowsWith.FAULTS,
        Goes(
            Period.REPORTS,
            "(select began_at from reports as r where r.id = report)",
            "its report is under way",
        ),
        is_large=True,
    ),
    "reports": TableGrowth(
        GrowsWith.DAYS, Goes(Period.REPORTS, "began_at", "it is under way, or has differences left")
    ),
    "comparison_failures": TableGrowth(GrowsWith.FAULTS, Stays("each goes with its report")),
    "bootstraps": TableGrowth(GrowsWith.SELLERS, Stays("whether a seller's bulk start is done")),
    "export_slices": TableGrowth(GrowsWith.BULK_STARTS, _CERTIFIED),
    "slice_rows": TableGrowth(GrowsWith.BULK_STARTS, _CERTIFIED, is_large=True),
    "certificates": TableGrowth(GrowsWith.BULK_STARTS, Stays("the proof of a bulk start")),
    "exports": TableGrowth(GrowsWith.NOTHING, _FORMER_RELEASE),
    "export_rows": TableGrowth(GrowsWith.NOTHING, _FORMER_RELEASE, is_large=True),
    "refetches": TableGrowth(
        GrowsWith.WORK,
        Stays("each goes when its order has come, or is a dead letter; those parked wait for their seller"),
        is_large=True,
    ),
    "detail_tasks": TableGrowth(GrowsWith.WORK, Stays("each goes when its orders are handed over")),
    "open_letters": TableGrowth(
        GrowsWith.FAULTS,
        Stays("each goes when its letter is dealt with; whoever adds some takes away what the topic dropped"),
        is_large=True,
    ),
    "dead_letter_retries": TableGrowth(
        GrowsWith.FAULTS,
        Stays("each goes with its letter: whoever adds some takes away what the topic dropped"),
        is_large=True,
    ),
    "witness_progress": TableGrowth(GrowsWith.NOTHING, Stays("a row for each partition that is read")),
    "witness_findings": TableGrowth(
        GrowsWith.FAULTS, Stays("each is a promise that was not kept; the audit names it until it is removed")
    ),
    "compacted_topics": TableGrowth(GrowsWith.NOTHING, Stays("a row for each topic")),
    "topic_losses": TableGrowth(GrowsWith.NOTHING, Stays("a row for each topic, until it is repaired")),
    "api_calls": TableGrowth(GrowsWith.DAYS, Goes(Period.CALL_COUNTS, "day")),
    "service_calls": TableGrowth(GrowsWith.DAYS, Goes(Period.CALL_COUNTS, "day")),
    "call_evidence": TableGrowth(
        GrowsWith.WORK, Stays("whoever judges the circuits deletes it when it is older than their window")
    ),
    "circuits": TableGrowth(GrowsWith.WORK, Stays("each goes a while after it was closed")),
    "anomalies": TableGrowth(GrowsWith.FAULTS, Goes(Period.ANOMALIES, "last_at")),
    "anomaly_notices": TableGrowth(GrowsWith.NOTHING, Stays("a row for each kind of anomaly")),
    "detail_hours": TableGrowth(GrowsWith.DAYS, Goes(Period.ANOMALIES, "hour")),
    "call_budget": TableGrowth(GrowsWith.NOTHING, Stays("a row for each limit")),
    "call_bans": TableGrowth(GrowsWith.NOTHING, Stays("a row for each scope")),
    "migrations": TableGrowth(GrowsWith.NOTHING, Stays("a row for each migration")),
}

GOING: Final[Mapping[str, Goes]] = {
    name: table.rows for name, table in TABLES.items() if isinstance(table.rows, Goes)
}
"""The tables whose rows go by age, in the order in which they are deleted: gaps before their connections, and
differences before their reports."""

LARGE: Final = frozenset(name for name, table in TABLES.items() if table.is_large)
