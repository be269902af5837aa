"""What the records of a comparison say, from its report. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime

from schemas.notification import ComparisonFinished, DifferencesFound
from topsync.model.difference import DifferenceKind, DifferenceOutcome
from topsync.model.kind import Kind
from topsync.store.comparisons import DifferenceCount


def totals(counts: Iterable[DifferenceCount]) -> Counter[DifferenceKind | DifferenceOutcome]:
    """How many differed in each way, and how many came to each outcome."""
    found: Counter[DifferenceKind | DifferenceOutcome] = Counter()
    for each in counts:
        found[each.what] += each.objects
        # What is still open when a report ends is left.
        is_repaired = each.outcome is DifferenceOutcome.REPAIRED
        found[DifferenceOutcome.REPAIRED if is_repaired else DifferenceOutcome.LEFT] += each.objects
    return found


def by_seller(counts: Iterable[DifferenceCount]) -> dict[int, list[DifferenceCount]]:
    """The counts of each seller."""
    found: defaultdict[int, list[DifferenceCount]] = defaultdict(list)
    for each in counts:
        found[each.seller_id].append(each)
    return dict(found)


def of_seller(
    report: str, seller_id: int, counts: Iterable[DifferenceCount], some: Mapping[Kind, Sequence[int]]
) -> DifferencesFound:
    """The record of a seller that differed. `some` are ids of what did, by kind."""
    found = totals(counts)
    return DifferencesFound(
        report=report,
        seller_id=seller_id,
        **{kind.value: found[kind] for kind in DifferenceKind},
        repaired=found[DifferenceOutcome.REPAIRED],
        left=found[DifferenceOutcome.LEFT],
        some_orders=tuple(some.get(Kind.ORDER, ())),
        some_refunds=tuple(some.get(Kind.REFUND, ())),
    )


def of_night(
    report: str,
    night: date,
    began_at: datetime,
    counts: Sequence[DifferenceCount],
    *,
    days: int,
    days_left: int,
    sellers_failed: int,
) -> ComparisonFinished:
    """The record of a night."""
    found = totals(counts)
    return ComparisonFinished(
        report=report,
        night=night,
        began_at=began_at,
        days=days,
        days_left=days_left,
        found=sum(found[kind] for kind in DifferenceKind),
        repaired=found[DifferenceOutcome.REPAIRED],
        left=found[DifferenceOutcome.LEFT],
        sellers_failed=sellers_failed,
    )
