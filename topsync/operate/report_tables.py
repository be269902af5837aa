"""Reports of the comparison with the platform, for people and for machines. Times are shown in GMT+8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from schemas import platform_time
from topsync.base.terminal import Column, Table
from topsync.model.difference import Difference, DifferenceKind, DifferenceOutcome
from topsync.store.comparisons import ComparisonFailure, DifferenceCount, Report
from topsync.store.sellers import Seller
from topsync.verify import report_outcome

NOTHING = "nothing"


def advice(each: Difference) -> str:
    """What an operator should do about a difference."""
    match each.what, each.outcome:
        case _, DifferenceOutcome.REPAIRED:
            return NOTHING
        case _, DifferenceOutcome.OPEN:
            return "wait: it is being repaired"
        case DifferenceKind.UNKNOWN, _:
            return "ask the seller: the platform no longer has it; it stays in the copy"
        case DifferenceKind.UNLISTED, _:
            return "tell topsync's developers its trade type; only messages bring its changes"
    return f"see why: topsync orders explain {each.tid}"


def of_all(reports: Iterable[tuple[Report, Sequence[DifferenceCount], int]]) -> Table:
    """A row for each report, with what differed and how many sellers failed."""
    table = Table(
        (
            Column("report", whole=True),
            Column("began (GMT+8)", whole=True, rank=2),
            Column("state"),
            Column("days", whole=True, rank=3),
            Column("found", whole=True),
            Column("repaired", whole=True),
            Column("left", whole=True),
            Column("sellers failed", whole=True, rank=1),
        )
    )
    for report, counts, failed in reports:
        found = report_outcome.totals(counts)
        table.add(
            report.id,
            platform_time.format(report.began_at),
            standing(report),
            str(report.days),
            str(sum(found[kind] for kind in DifferenceKind)),
            str(found[DifferenceOutcome.REPAIRED]),
            str(found[DifferenceOutcome.LEFT]),
            str(failed),
        )
    return table


def standing(report: Report) -> str:
    """How far a report is, in a word or two."""
    if report.ended_at is None:
        return "under way"
    return f"{report.days_left} days left" if report.days_left else "done"


def of_sellers(
    counts: Iterable[DifferenceCount], failures: Sequence[ComparisonFailure], sellers: Iterable[Seller]
) -> Table:
    """A row for each seller: how much differed in each way, and why it was not compared."""
    table = Table(
        (
            Column("id", whole=True, rank=3),
            Column("seller"),
            *(Column(kind.value, whole=True) for kind in DifferenceKind),
            Column("repaired", whole=True),
            Column("not compared", rank=1),
        ),
        title="Compared with the platform",
    )
    grouped = report_outcome.by_seller(counts)
    for seller in sellers:
        found = report_outcome.totals(grouped.get(seller.seller_id, ()))
        reasons = [
            f"{each.kind.plural}: {each.reason}" for each in failures if each.seller_id == seller.seller_id
        ]
        table.add(
            str(seller.seller_id),
            seller.nick,
            *(str(found[kind]) for kind in DifferenceKind),
            str(found[DifferenceOutcome.REPAIRED]),
            "; ".join(reasons),
        )
    return table


def of_differences(found: Iterable[Difference], nicks: Mapping[int, str]) -> Table:
    """A row for each difference; the last column says what to do."""
    table = Table(
        (
            Column("seller", rank=2),
            Column("day", whole=True, rank=3),
            Column("what differs", whole=True),
            Column("how"),
            Column("outcome", whole=True),
            Column("what to do"),
        )
    )
    for each in found:
        table.add(
            nicks.get(each.seller_id) or str(each.seller_id),
            each.day.isoformat(),
            f"{each.kind.value} {each.id}",
            f"{each.what.value}: {each.note}" if each.note else each.what.value,
            each.outcome.value,
            advice(each),
        )
    return table


def document(
    report: Report, counts: Sequence[DifferenceCount], failures: Iterable[ComparisonFailure]
) -> dict[str, object]:
    """A report for machines, without its single differences."""
    found = report_outcome.totals(counts)
    return {
        "report": report.id,
        "night": report.night,
        "state": "under_way" if report.ended_at is None else "unfinished" if report.days_left else "done",
        "began_at": report.began_at,
        "ended_at": report.ended_at,
        "days": report.days,
        "days_left": report.days_left,
        **{kind.value: found[kind] for kind in DifferenceKind},
        "repaired": found[DifferenceOutcome.REPAIRED],
        "left": found[DifferenceOutcome.LEFT],
        "failed": [
            {"seller_id": str(each.seller_id), "kind": each.kind.value, "reason": each.reason}
            for each in failures
        ],
    }


def as_json(each: Difference) -> dict[str, object]:
    """A difference for machines."""
    return {
        "seller_id": str(each.seller_id),
        "day": each.day,
        "kind": each.kind.value,
        "id": str(each.id),
        "tid": str(each.tid),
        "difference": each.what.value,
        "note": each.note,
        "outcome": each.outcome.value,
        "do": advice(each),
    }
