"""Ends a report: its records first, then its end.

After a crash between the two, the records are published again, so nobody waits for them in vain.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schemas.notification import Notification
from topsync.base import failpoints, telemetry
from topsync.model.difference import DifferenceKind, DifferenceOutcome
from topsync.model.kind import Kind
from topsync.store import comparisons
from topsync.store.comparisons import Report
from topsync.store.database import Pool
from topsync.stream import records
from topsync.stream.producer import Producer
from topsync.verify import report_outcome

log = telemetry.get_logger(__name__)

SOME = 20
"""Ids of a kind in the record of a seller; the report has them all."""


@dataclass(frozen=True, slots=True)
class Reports:
    """What ending a report needs."""

    pool: Pool
    producer: Producer
    notifications_topic: str

    async def end(self, report: Report, *, at: datetime, days: int, days_left: int) -> None:
        """Publish what a report says and end it. Idempotent: where two do it at once, it ends once.

        Raises:
            PublishError: Kafka did not take the records; the report is under way still.
        """
        present = await comparisons.get(self.pool, report.id)
        if present is None or present.ended_at is not None:
            return  # another process has ended it, and said so
        counts = await comparisons.counts(self.pool, report.id)
        bodies: list[Notification] = []
        for seller_id, of_seller in report_outcome.by_seller(counts).items():
            some = {
                kind: await comparisons.some_ids(self.pool, report.id, seller_id, kind, limit=SOME)
                for kind in Kind
            }
            bodies.append(report_outcome.of_seller(report.id, seller_id, of_seller, some))
        failed = {each.seller_id for each in await comparisons.failures(self.pool, report.id)}
        if report.night is not None:
            bodies.append(
                report_outcome.of_night(
                    report.id,
                    report.night,
                    report.began_at,
                    counts,
                    days=days,
                    days_left=days_left,
                    sellers_failed=len(failed),
                )
            )
        await self.producer.publish(
            [records.notification(self.notifications_topic, body, at=at) for body in bodies]
        )
        failpoints.reach("comparison.notified")
        if await comparisons.finish(self.pool, report.id, at=at, days=days, days_left=days_left):
            found = report_outcome.totals(counts)
            log.info(
                "compared with the platform",
                report=report.id,
                days=days,
                days_left=days_left,
                found=sum(found[kind] for kind in DifferenceKind),
                left=found[DifferenceOutcome.LEFT],
                sellers_failed=len(failed),
            )
