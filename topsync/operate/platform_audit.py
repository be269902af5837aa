"""`topsync audit` in production: platform, table and topic, of the sellers and days that are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import uuid4

from schemas import platform_time
from schemas.change import Source
from topsync.base import terminal
from topsync.base.errors import OperatorError, reaching
from topsync.base.progress_bars import moving
from topsync.coverage.created import day_span
from topsync.model.difference import DifferenceKind, DifferenceOutcome
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.operate import report_tables
from topsync.operate.seller_commands import find
from topsync.store import bootstraps, comparisons, sellers
from topsync.store.comparisons import ComparisonFailure, DifferenceCount, Report
from topsync.store.sellers import Seller, SellerState
from topsync.stream import topics
from topsync.stream.producer import PublishError
from topsync.verify import report_outcome, rotation
from topsync.verify.comparison import Comparing
from topsync.verify.rotation import DayTask
from topsync.verify.topic_rows import TopicRowsCompared
from topsync.wiring import comparison
from topsync.wiring.comparison import OpenedComparison

USUAL_DAYS: Final = 7
"""Where no first day is named, the last so many."""

LINE_EVERY_SECONDS: Final = 5.0


class AuditRefusedError(OperatorError):
    """The audit that is asked for is not possible."""


@dataclass(frozen=True, slots=True)
class AskedAudit:
    """What an operator asks for."""

    sellers: Sequence[str]
    """Nicks or ids; none: all that are live."""
    first: datetime | None
    last: datetime | None
    """Platform days, both included; by default up to yesterday."""


@dataclass(frozen=True, slots=True)
class PlatformAudit:
    """What was found."""

    report: Report
    counts: Sequence[DifferenceCount]
    failures: Sequence[ComparisonFailure]
    sellers: Sequence[Seller]
    days: int
    """Days of sellers that were compared, each kind by itself."""
    topic: TopicRowsCompared

    @property
    def clean(self) -> bool:
        """Whether everything was compared, and nothing differed."""
        return not (self.counts or self.failures or self.topic.differences)


async def run(asked: AskedAudit, *, as_json: bool) -> int:
    """Compare, repair what differs, and show it; 0 only when all was compared and nothing differed.

    Raises:
        AuditRefusedError: there is nothing to compare.
    """
    with reaching(topics.SERVER, (PublishError,)):
        async with comparison.opened() as opened:
            result = await _compare(opened, asked)
    if as_json:
        terminal.write_json(document(result))
    else:
        show(result)
    return 0 if result.clean else 1


async def _compare(opened: OpenedComparison, asked: AskedAudit) -> PlatformAudit:
    wanted = await _sellers(opened, asked)
    days = _days(opened, asked)
    first_days = await bootstraps.first_days(opened.pool)
    of = {
        seller.seller_id: [day for day in days if day >= first_days.get(seller.seller_id, date.min)]
        for seller in wanted
    }
    kinds = opened.comparison.comparer.kinds
    total = len(kinds) * sum(map(len, of.values()))
    if not total:
        raise AuditRefusedError("the bulk starts of these sellers brought none of these days")
    report = await comparisons.begin(
        opened.pool, f"audit-{uuid4().hex[:12]}", night=None, at=opened.clock.now()
    )
    terminal.complain(
        f"report {report.id}: {len(wanted)} sellers, {total} days of orders or refunds, each at least 1 call"
    )
    done: Counter[int] = Counter()
    with moving(every_seconds=LINE_EVERY_SECONDS) as show_it:

        def reached(seller_id: int, days_of_seller: int) -> None:
            done[seller_id] = days_of_seller
            show_it(f"compared {sum(done.values())} of {total} days", "")

        async def tasks(seller_id: int, _: Kind) -> list[DayTask]:
            return [DayTask(day, by_ids=True) for day in of[seller_id]]

        work = Comparing(
            report=report.id,
            night=platform_time.day_of(opened.clock.now()),
            notes_progress=False,
            source=Source.OPERATOR,
            tasks=tasks,
            may_begin=lambda: True,
            reached=reached,
        )
        await opened.comparison.run(work, list(of))
        topic = await opened.topic_rows.compare(
            kinds,
            [(seller_id, _half_open(day)) for seller_id, some in of.items() for day in some],
            progress=lambda kind, read, records: show_it(f"read {read} of {records} {kind.plural}", ""),
        )
    compared = sum(done.values())
    await opened.reports.end(report, at=opened.clock.now(), days=compared, days_left=total - compared)
    ended = await comparisons.get(opened.pool, report.id)
    return PlatformAudit(
        report=ended or report,
        counts=await comparisons.counts(opened.pool, report.id),
        failures=await comparisons.failures(opened.pool, report.id),
        sellers=wanted,
        days=compared,
        topic=topic,
    )


async def _sellers(opened: OpenedComparison, asked: AskedAudit) -> list[Seller]:
    if asked.sellers:
        found = [await find(opened.pool, name) for name in dict.fromkeys(asked.sellers)]
        for seller in found:
            if seller.state is not SellerState.LIVE:
                raise AuditRefusedError(
                    f"seller {seller.nick} is {seller.state}: only live sellers can be compared; see "
                    f"`topsync sellers show {seller.seller_id}`"
                )
        return found
    found = [each for each in await sellers.all_of(opened.pool) if each.state is SellerState.LIVE]
    if not found:
        raise AuditRefusedError("no seller is live: run `topsync bootstrap` first")
    return found


def _days(opened: OpenedComparison, asked: AskedAudit) -> list[date]:
    today = platform_time.day_of(opened.clock.now())
    oldest = opened.comparison.comparer.oldest_day()
    last = today - timedelta(days=1) if asked.last is None else asked.last.date()
    first = max(oldest, last - timedelta(days=USUAL_DAYS - 1)) if asked.first is None else asked.first.date()
    if first < oldest:
        raise AuditRefusedError(f"the platform lists nothing before {oldest}: name a day from then on")
    if last >= today:
        raise AuditRefusedError(f"{last} is not over: name a day up to {today - timedelta(days=1)}")
    if first > last:
        raise AuditRefusedError(f"--from {first} is after --to {last}")
    return rotation.days_within(first, last + timedelta(days=1))


def _half_open(day: date) -> Span:
    return Span(day_span(day).start, day_span(day + timedelta(days=1)).start)


def show(result: PlatformAudit) -> None:
    """The audit for people, and its last line for machines."""
    terminal.show(report_tables.of_sellers(result.counts, result.failures, result.sellers))
    for each in result.topic.differences:
        terminal.say(
            f"  {each.kind.value} {each.id}: {each.fault}; run `topsync republish --order {each.tid}`"
        )
    if result.counts:
        terminal.say(f"each difference by its id: topsync report show {result.report.id}")
    terminal.say(line(result))


def line(result: PlatformAudit) -> str:
    """The line for machines."""
    found = report_outcome.totals(result.counts)
    kinds = " ".join(f"{kind.value}={found[kind]}" for kind in DifferenceKind)
    return (
        f"PLATFORM AUDIT days={result.days} {kinds} repaired={found[DifferenceOutcome.REPAIRED]} "
        f"failed={len(result.failures)} topic_rows={result.topic.rows} "
        f"topic_differs={len(result.topic.differences)}"
    )


def document(result: PlatformAudit) -> dict[str, object]:
    """The audit for machines. The keys are a contract (docs/operations.md)."""
    return {
        "clean": result.clean,
        **report_tables.document(result.report, result.counts, result.failures),
        "days": result.days,
        "topic_rows": result.topic.rows,
        "topic_differences": [
            {
                "seller_id": str(each.seller_id),
                "kind": each.kind.value,
                "id": str(each.id),
                "tid": str(each.tid),
                "fault": each.fault.value,
            }
            for each in result.topic.differences
        ],
    }
