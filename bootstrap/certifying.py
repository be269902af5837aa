"""The end of a bulk start: what was proven is written down, claimed in the ledger, and published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bootstrap.start import Start
from schemas import platform_time
from schemas.notification import BootstrapCompleted, ExportPart, TodayPart
from topsync.base import failpoints, telemetry
from topsync.coverage.pull import PullOutcome
from topsync.model.kind import Kind
from topsync.model.slice import Slice
from topsync.model.span import Span
from topsync.store import bootstraps, slices
from topsync.store.bootstraps import Bootstrap
from topsync.stream import records

log = telemetry.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Certifier:
    """Certifies bulk starts."""

    async def certify(
        self, start: Start, state: Bootstrap, brought: Sequence[Slice], today: PullOutcome, *, seam: datetime
    ) -> None:
        """Certify a bulk start whose slices are stored, and whose time from `seam` on is pulled. Idempotent.

        Raises:
            ErasedError: the seller was erased meanwhile.
            PublishError, ...: Kafka or the database did not take it; do it again.
        """
        now = start.clock.now()
        orders = [each for each in brought if each.kind.leads]
        digest = await slices.digest_of_kind(start.pool, start.seller_id, Kind.ORDER)
        completed = BootstrapCompleted(
            seller_id=start.seller_id,
            day_zero=state.day_zero,
            export=_export_part(state, orders, digest),
            today=TodayPart(
                listed=today.listed[Kind.ORDER],
                hinted=today.hinted[Kind.ORDER],
                calls=today.calls,
                proven_to=today.proven_to,
                refunds=_refunds(brought, today),
            ),
            certified_at=now,
        )
        # Published first: after a crash in between it is published again, and nobody waits for it in vain.
        record = records.notification(start.topics.notifications.name, completed, at=now)
        await start.puller.producer.publish([record])
        failpoints.reach("bootstrap.notified")
        await bootstraps.certify(
            start.pool,
            start.seller_id,
            at=now,
            certificate=completed.model_dump(mode="json", exclude_none=True),
            proven=Span(platform_time.start_of(state.first_day), seam),
        )
        failpoints.reach("bootstrap.certified")
        log.info(
            "bootstrapped",
            seller_id=start.seller_id,
            scheme=state.scheme.value,
            listed_because=state.listed_because,
            slices=len(brought),
            orders=completed.export.orders,
        )


def _export_part(state: Bootstrap, orders: Sequence[Slice], digest: str) -> ExportPart:
    """All slices of orders as the one part that readers of this contract know."""
    tasks = [each.task for each in orders if each.task is not None]
    single = tasks[0] if len(orders) == len(tasks) == 1 else None
    return ExportPart(
        task_id=tasks[0].task_id if tasks else 0,
        first_day=state.first_day,
        last_day=state.day_zero - timedelta(days=1),
        created_at=min((task.created_at for task in tasks), default=state.started_at),
        adopted=any(task.adopted for task in tasks),
        md5=single.check_code if single else None,
        file_bytes=sum(task.file_bytes or 0 for task in tasks) if tasks else None,
        lines=sum(each.counts.lines for each in orders),
        published=sum(each.counts.published for each in orders),
        repaired=sum(each.counts.repaired for each in orders),
        refused=sum(each.counts.refused for each in orders),
        orders=sum(each.balance.objects for each in orders if each.balance),
        digest=digest,
    )


def _refunds(brought: Sequence[Slice], today: PullOutcome) -> int | None:
    """How many refunds were listed or exported since the first day; None where they are left out."""
    if Kind.REFUND not in today.listed:
        return None
    before = [each.balance.objects for each in brought if each.kind is Kind.REFUND and each.balance]
    return today.listed[Kind.REFUND] + sum(before)
