"""The watch over the visibility allowance that is learnt: tells of each change, and lowers it slowly.

It is raised by the pulls that find it exceeded (`topsync/coverage/list_learning.py`). A duty: what a former
holder does once more tells of a change twice, or finds that it was just lowered.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas.notification import AllowanceChanged, LateArrivalEvidence
from topsync.base import telemetry
from topsync.base.clock import ServerClock
from topsync.model import learned_allowance
from topsync.model.learned_allowance import TAIL, LearningRules
from topsync.store import visibility
from topsync.store.database import Pool
from topsync.store.visibility import VisibilityChange
from topsync.stream import records
from topsync.stream.producer import Producer

log = telemetry.get_logger(__name__)

AT_ONCE: Final = 100


@dataclass(slots=True)
class AllowanceWatch:
    """What the watch needs."""

    pool: Pool
    producer: Producer
    clock: ServerClock
    notifications_topic: str
    rules: LearningRules
    usual: timedelta
    """The setting's allowance."""

    async def round(self) -> None:
        """Tell of changes, and lower the allowance where it is time.

        Raises:
            PublishError: Kafka did not take the notifications; they are published at a later round.
        """
        await self._lower()
        changes = await visibility.unnotified(self.pool, limit=AT_ONCE)
        if not changes:
            return
        # After a crash before the mark they are published again: nobody waits for them in vain.
        await self.producer.publish(
            [
                records.notification(self.notifications_topic, notification(each, self.rules), at=each.at)
                for each in changes
            ]
        )
        await visibility.mark_notified(self.pool, [each.id for each in changes])

    async def _lower(self) -> None:
        now = self.clock.now()
        if self._lowered(await visibility.learned(self.pool), timedelta(0), now) is None:
            return
        async with self.pool.acquire() as connection, connection.transaction():
            learned = await visibility.locked(connection)
            longest = await visibility.longest(connection, now - TAIL)
            lower = self._lowered(learned, longest, now)
            if lower is None:
                return
            await visibility.change(connection, learned, lower, at=now)
        log.info(
            "visibility allowance lowered",
            allowance_seconds=lower.total_seconds(),
            before_seconds=learned.allowance.total_seconds(),
        )

    def _lowered(
        self, learned: learned_allowance.LearnedAllowance, longest: timedelta, now: datetime
    ) -> timedelta | None:
        return learned_allowance.lowered(learned, longest=longest, usual=self.usual, now=now)


def notification(change: VisibilityChange, rules: LearningRules) -> AllowanceChanged:
    """What is said of a change."""
    evidence = None
    if (
        change.seller_id is not None
        and change.kind is not None
        and change.object_id is not None
        and change.modified is not None
        and change.lacked_at is not None
        and change.shown_at is not None
    ):
        evidence = LateArrivalEvidence(
            seller_id=change.seller_id,
            kind=change.kind.value,
            id=change.object_id,
            modified=change.modified,
            lacked_at=change.lacked_at,
            shown_at=change.shown_at,
        )
    return AllowanceChanged(
        change=change.id,
        before_seconds=change.before.total_seconds(),
        allowance_seconds=change.allowance.total_seconds(),
        most_seconds=rules.most.total_seconds(),
        is_raised=change.taken_from is not None,
        late_arrivals=change.arrivals,
        evidence=evidence,
        taken_back_from=change.taken_from,
        taken_back_sellers=change.taken_of,
    )
