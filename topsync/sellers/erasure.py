"""Erases a seller's data in steps. Each step can be repeated; a new run goes on where the last run ended.

1. *Stop*: the seller gets the state erased. Its session is deleted, no call is made for it, and nothing of it
is stored any more. We ask the platform to send no more messages of it.
2. *Orders*: only the owner of a partition may take an order out of table and topic. So we write a request for
each order to `changes`, until no order is left, every tombstone is published, and the owners have read
everything that was under way when the seller was stopped. After that, no batch of theirs can bring anything
back.
3. *Rest*: the records that they have read from `snapshots` are deleted, because these hold whole orders; then
all other rows of the seller.
4. A record in `notifications` announces it, and the seller may be added again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiokafka.errors import KafkaError

from schemas.erasure import Erasure
from schemas.notification import SellerErased
from topsync.base import failpoints
from topsync.base.errors import OperatorError
from topsync.base.stall_timer import StallTimer
from topsync.store import erasures
from topsync.store.database import Pool
from topsync.store.erasures import ErasureProgress, Left
from topsync.store.sellers import Seller
from topsync.stream import records
from topsync.stream.group_progress import GroupProgress, Offsets
from topsync.stream.producer import Producer
from topsync.stream.topics import Registry

STEPS: Final = {"orders": "erasing orders", "rest": "erasing all the rest"}
"""The steps' names for people."""

ASKED_AT_ONCE: Final = 1000
"""Orders requested together: a few hundred kilobytes."""

ASK_AGAIN_SECONDS: Final = 2.0
"""The time between two requests; the second finds what was stored during the first."""

QUIET_SECONDS: Final = 5.0
"""After this long without progress we say what we wait for."""

POLL_SECONDS: Final = 0.2
LOOKING_SHARE: Final = 0.2
"""The largest share of the time spent on looking: for a large seller, counting what is left takes a while."""

GOES_ON: Final = "run the same command again, and it goes on from here"

NOTHING: Final = Left(0, 0)

Report = Callable[[str, int, int | None], None]
"""Called with (step, done, total if known)."""


class NotErasedError(OperatorError):
    """The erasure was not completed. The text says what to do."""


@dataclass(frozen=True, slots=True)
class ErasureOutcome:
    """What was done."""

    orders: int
    rows: int
    """All deleted rows except orders."""
    snapshots_kept: str | None
    """Why the records read from `snapshots` still exist; None when they were deleted."""
    platform_notified: bool


@dataclass(slots=True)
class Eraser:
    """Everything that erasing a seller needs."""

    pool: Pool
    producer: Producer
    progress: GroupProgress
    """Of the enrichers, in `changes` and `snapshots`."""
    topics: Registry
    seller: Seller
    tell_platform: Callable[[], Awaitable[bool]]
    """Asks the platform to stop; returns whether it answered. If not, the next run asks again."""
    report: Report
    say: Callable[[str], None]
    """Called with sentences for the operator."""
    stalled_after_seconds: float
    """How long the enrichers may make no progress."""

    @property
    def _seller_id(self) -> int:
        return self.seller.seller_id

    async def run(self) -> ErasureOutcome:
        """Erase everything.

        Raises:
            NotErasedError: the enrichers make no progress.
            PublishError: Kafka does not answer.
        """
        state = await erasures.begin(self.pool, self._seller_id)
        failpoints.reach("erasure.begun")
        platform_notified = state.platform_notified
        if not platform_notified and (platform_notified := await self.tell_platform()):
            failpoints.reach("erasure.platform_notified")
            await erasures.platform_notified(self.pool, self._seller_id)
            failpoints.reach("erasure.platform_noted")
        if state.finished_at is not None:
            return ErasureOutcome(state.orders, 0, None, platform_notified)
        await self._erase_orders(state)
        failpoints.reach("erasure.orders_gone")
        kept = await self._delete_snapshots()
        failpoints.reach("erasure.snapshots_deleted")
        rows = await self._clear()
        failpoints.reach("erasure.rows_cleared")
        # Notified before the end is noted: after a crash in between, there is a second notification.
        await self._notify(state)
        failpoints.reach("erasure.notified")
        await erasures.finish(self.pool, self._seller_id)
        return ErasureOutcome(state.orders, rows, kept, platform_notified)

    async def _erase_orders(self, state: ErasureProgress) -> None:
        """Request every order, until the owners have erased them and no earlier batch is under way.

        A batch that was under way may store an order after the first request. We find it when the batch is
        done: by then the offsets before it are committed.
        """
        loop = asyncio.get_running_loop()
        marks = await self._ask()
        asked_at = loop.time()
        timer, warned = StallTimer(self.stalled_after_seconds), False
        while True:
            began = loop.time()
            behind = await self.progress.behind(marks)
            left = await erasures.left(self.pool, self._seller_id)
            if not behind and left == NOTHING:
                self.report("orders", state.orders, state.orders)
                return
            if not behind and left.orders and began > asked_at + ASK_AGAIN_SECONDS:
                marks, asked_at = await self._ask(), began
            total = max(state.orders, left.orders)
            # Do not show 100 % before the owners have read everything.
            self.report("orders", min(total - left.orders, max(0, total - 1)), total)
            still_seconds = timer.still_seconds(
                (left.orders + left.tombstones, behind), at_seconds=loop.time()
            )
            warned = self._judge(left, behind, still_seconds, warned=warned)
            await asyncio.sleep(max(POLL_SECONDS, (loop.time() - began) * (1 / LOOKING_SHARE - 1)))

    def _judge(self, left: Left, behind: int, still_seconds: float, *, warned: bool) -> bool:
        """Give up, or say once that nothing moves; whether that is said of this standstill."""
        if still_seconds > self.stalled_after_seconds:
            raise NotErasedError(
                f"{left.orders} orders of {self.seller.nick} are not erased, {left.tombstones} tombstones "
                f"not published, and nothing has moved for {self.stalled_after_seconds:g} s. "
                f"Start `topsync enrich`; {GOES_ON}"
            )
        if still_seconds > QUIET_SECONDS and not warned:
            self.say(
                f"nothing moves: waiting for the enrichers, which have {behind} records to read first; is "
                "`topsync enrich` running?"
            )
        return still_seconds > QUIET_SECONDS

    async def _ask(self) -> Offsets:
        """Request every order that is in the table; returns the offsets up to which the owners must read."""
        now = datetime.now(UTC)
        async for some in erasures.tids(self.pool, self._seller_id, at_once=ASKED_AT_ONCE):
            await self.producer.publish(
                [
                    records.erasure(
                        self.topics.changes.name, Erasure(seller_id=self._seller_id, tid=tid, asked_at=now)
                    )
                    for tid in some
                ]
            )
        failpoints.reach("erasure.asked")
        return await self.progress.ends()

    async def _delete_snapshots(self) -> str | None:
        try:
            await self.progress.delete_done(self.topics.snapshots)
        except KafkaError as error:
            return repr(error)
        return None

    async def _clear(self) -> int:
        found = await erasures.preview(self.pool, self._seller_id)
        total, done = found.slice_rows + found.windows + found.refetches, 0
        self.report("rest", 0, total)
        async for deleted in erasures.clear(self.pool, self._seller_id):
            done += deleted
            self.report("rest", min(done, total), total)
        self.report("rest", max(done, total), max(done, total))
        return done

    async def _notify(self, state: ErasureProgress) -> None:
        notification = SellerErased(seller_id=self._seller_id, orders=state.orders)
        # Our own clock: nothing here depends on the platform, which may not even answer.
        record = records.notification(self.topics.notifications.name, notification, at=datetime.now(UTC))
        await self.producer.publish([record])
