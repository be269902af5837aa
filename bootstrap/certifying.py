"""The end of a bulk start: what was proven is written down, signed, claimed in the ledger, and published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bootstrap.errors import BootstrapFailedError
from bootstrap.start import Start
from schemas import certificate as documents
from schemas import platform_time
from schemas.certificate import Certificate, PushPart, WindowPart
from schemas.notification import NO_TASK, BootstrapCompleted, ExportPart, TodayPart
from topsync.base import certificate_key, failpoints, identity, telemetry
from topsync.base.certificate_key import CertificateKey
from topsync.coverage.pull import PullOutcome
from topsync.model.certificate import CertifiedStart, certificate
from topsync.model.equations import problems
from topsync.model.kind import Kind
from topsync.model.row_digest import RowSums
from topsync.model.slice import Slice
from topsync.model.span import Span
from topsync.store import bootstraps, certificates, push_connections, schema
from topsync.store.bootstraps import Bootstrap
from topsync.store.coverage import PulledWindow
from topsync.stream import records

log = telemetry.get_logger(__name__)

NAMED = 5
"""How many of the equations that do not come out an error names."""


@dataclass(frozen=True, slots=True)
class Certifier:
    """Certifies bulk starts."""

    key: CertificateKey | None
    """None: certificates are not signed."""
    push_silent_for: timedelta
    """How long push may be silent and still count as connected."""

    async def certify(
        self, start: Start, state: Bootstrap, brought: Sequence[Slice], today: PullOutcome, *, seam: datetime
    ) -> None:
        """Certify a bulk start whose slices are stored, and whose time from `seam` on is pulled. Idempotent.

        Raises:
            BootstrapFailedError: an equation does not come out; nothing is claimed.
            ErasedError: the seller was erased meanwhile.
            PublishError, ...: Kafka or the database did not take it; do it again.
        """
        now = start.clock.now()
        sums = {
            kind: await certificates.sums(
                start.pool, start.seller_id, [each.number for each in brought if each.kind is kind]
            )
            for kind in today.listed
        }
        certified = await self._document(start, state, brought, today, sums, seam=seam, now=now)
        orders = [each for each in brought if each.kind.leads]
        completed = BootstrapCompleted(
            seller_id=start.seller_id,
            day_zero=state.day_zero,
            export=_export_part(state, orders, sums[Kind.ORDER]),
            today=TodayPart(
                listed=today.listed[Kind.ORDER],
                hinted=today.hinted[Kind.ORDER],
                calls=today.calls,
                proven_to=today.proven_to,
                refunds=_refunds(today, sums),
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
            summary=completed.model_dump(mode="json", exclude_none=True),
            document=documents.write(certified),
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
            is_signed=certified.signature is not None,
        )

    async def _document(
        self,
        start: Start,
        state: Bootstrap,
        brought: Sequence[Slice],
        today: PullOutcome,
        sums: Mapping[Kind, RowSums],
        *,
        seam: datetime,
        now: datetime,
    ) -> Certificate:
        made = certificate(
            CertifiedStart(
                seller_id=start.seller_id,
                scheme=state.scheme,
                first_day=state.first_day,
                day_zero=state.day_zero,
                started_at=state.started_at,
                slices=[
                    replace(each, digest=sums[each.kind].digest_of(each.number))
                    for each in brought
                    if each.kind in sums
                ],
                sums=sums,
                seam=seam,
                proven_to=today.proven_to,
                windows=[_window(window) for window in today.windows],
                certified_at=now,
                code=identity.release(),
                schema_number=schema.newest(),
                push=await self._push(start),
                listed_because=state.listed_because,
            )
        )
        if found := problems(made):
            # Nobody is to find out later that what we have signed does not agree with itself.
            raise BootstrapFailedError(f"the certificate does not come out: {'; '.join(found[:NAMED])}")
        if self.key is None:
            log.warning(
                "not signed: set TOPSYNC_CERTIFICATE_KEY (`topsync certificate key --new` makes a key)",
                seller_id=start.seller_id,
            )
            return made
        return certificate_key.sign(made, self.key)

    async def _push(self, start: Start) -> PushPart | None:
        up = await push_connections.up(start.pool, silent_for=self.push_silent_for)
        if not up:
            return None
        return PushPart(connected_at=up[0].connected_at, last_proof_at=up[0].last_proof_at)


def _window(window: PulledWindow) -> WindowPart:
    return WindowPart(
        kind=window.lists.value,
        start=window.span.start,
        end=window.span.end,
        listed=window.listed,
        hinted=window.hinted,
        proven_to=window.proven_to,
        pulled_at=window.pulled_at,
    )


def _export_part(state: Bootstrap, orders: Sequence[Slice], sums: RowSums) -> ExportPart:
    """All slices of orders as the one part that readers of this contract know."""
    tasks = [each.task for each in orders if each.task is not None]
    single = tasks[0] if len(orders) == len(tasks) == 1 else None
    return ExportPart(
        task_id=tasks[0].task_id if tasks else NO_TASK,
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
        orders=sums.objects,
        digest=sums.digest,
    )


def _refunds(today: PullOutcome, sums: Mapping[Kind, RowSums]) -> int | None:
    """How many refunds were had since the first day; None where they are left out."""
    if Kind.REFUND not in today.listed:
        return None
    return today.listed[Kind.REFUND] + sums[Kind.REFUND].objects
