"""Anomalies: one process judges for all what has been seen, and notifies each kind at most once an hour.

What is seen comes from every process (`topsync/wiring/call_counts.py`, `consumer/enrich/oddities.py`), what
counts show from `anomaly_judge`. Which of two processes notifies, the database decides. A notification is
decided first and published then: a crash in between loses none, and what is published twice has the same id.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from reconciler.anomaly_judge import AnomalyJudge
from schemas.notification import AnomalySeen, OddThing
from topsync.base import metrics, telemetry
from topsync.model import anomaly_words
from topsync.model.anomaly import Anomaly, AnomalyKind
from topsync.store import anomalies
from topsync.store.database import Pool
from topsync.stream import records
from topsync.stream.producer import Producer

log = telemetry.get_logger(__name__)

MOST_TOLD: Final = 50
"""Things that one notification names. The next one names the others."""


@dataclass(slots=True)
class AnomalyWatch:
    """Judges and notifies. For one process at a time."""

    judge: AnomalyJudge
    notices: AnomalyNotices
    interval_seconds: float
    """Between two looks."""
    _due_at: float = field(default=float("-inf"))
    """By the loop's time."""

    async def round(self) -> None:
        """Judge and notify, when it is time, and publish what was decided before.

        Raises:
            OSError, asyncpg.PostgresError, PublishError: a server is away; it goes on later.
        """
        await self.notices.publish()
        loop = asyncio.get_running_loop()
        if loop.time() < self._due_at:
            return
        await self.judge.judge()
        await self.notices.notify()
        self._due_at = loop.time() + self.interval_seconds

    def forget(self) -> None:
        """See `reconciler.duties.Forgetting`."""
        metrics.ANOMALIES.clear()


@dataclass(slots=True)
class AnomalyNotices:
    """Notifies."""

    pool: Pool
    producer: Producer
    notifications_topic: str
    concerns: Callable[[AnomalyKind, str], bool]
    """Whether anybody is to hear of an anomaly."""
    _may_be_pending: bool = True
    """Whether a notification may have been decided that Kafka does not have."""

    async def notify(self) -> None:
        """Notify what lasts and was not notified, of each kind that was not notified within the hour.

        Raises:
            OSError, asyncpg.PostgresError, PublishError: a server is away; what was decided is
                published later.
        """
        self._may_be_pending = True  # another process may have decided, and died
        lasting = [each for each in await anomalies.lasting(self.pool) if self._concerns(each)]
        for kind in AnomalyKind:
            metrics.ANOMALIES.labels(kind.value).set(sum(each.kind is kind for each in lasting))
        untold = [each for each in await anomalies.untold(self.pool) if self._concerns(each)]
        for kind, of_kind in groupby(untold, key=lambda each: each.kind):
            some = list(of_kind)[:MOST_TOLD]
            body = notification_of(kind, some)
            if await anomalies.decide(
                self.pool,
                kind,
                [each.name for each in some],
                id=f"anomaly-{uuid.uuid4()}",
                body=body.model_dump_json(exclude_none=True),
            ):
                log.warning("anomaly", kind=kind.value, things=len(some), said=body.said)
        await self.publish()

    def _concerns(self, each: Anomaly) -> bool:
        return self.concerns(each.kind, each.name)

    async def publish(self) -> None:
        """Publish what was decided, by whichever process. May be repeated: it has the same id each time.

        Raises:
            OSError, asyncpg.PostgresError, PublishError: a server is away.
        """
        if not self._may_be_pending:
            return
        for notice in await anomalies.pending(self.pool):
            body = AnomalySeen.model_validate_json(notice.body)
            record = records.notification(self.notifications_topic, body, at=notice.decided_at, id=notice.id)
            await self.producer.publish([record])
            await anomalies.published(self.pool, notice)
            metrics.ANOMALIES_NOTIFIED.labels(notice.kind).inc()
        self._may_be_pending = False


def notification_of(kind: AnomalyKind, things: Sequence[Anomaly]) -> AnomalySeen:
    """What is notified of anomalies of the same kind. Pure."""
    return AnomalySeen(
        anomaly=kind.value,
        things=tuple(
            OddThing(
                name=each.name,
                seller_id=each.seller_id,
                tid=each.tid,
                seen=each.seen,
                among=each.among,
                expected=each.expected,
                deviation=each.deviation,
                first_at=each.first_at,
            )
            for each in things
        ),
        said=anomaly_words.what(things[0]),
        do=anomaly_words.DO[kind],
    )
