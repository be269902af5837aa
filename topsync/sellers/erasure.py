"""Erasing a seller's data, step by step. Each can be repeated; a new run goes on where the last one ended.

1. *Stop*: the seller is erased (a state). Its session is gone, nobody calls for it, and nothing of it is
   stored any more. The platform is told to send no more messages of it.
2. *Orders*: only the owner of a partition may take an order out of table and topic. So each order is asked
   for in `changes`, until none is left, every tombstone is published, and the owners have read everything
   that was on its way when the seller was stopped: no batch of theirs can bring anything back then.
3. *Rest*: what they have read of `snapshots` is deleted, for whole orders are in there; and then every
   other row of the seller.
4. It is told in `notifications`, and the seller may be added again.
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
from topsync.store import erasures
from topsync.store.database import Pool
from topsync.store.erasures import ErasureProgress, Left
from topsync.store.sellers import Seller
from topsync.stream import records
from topsync.stream.group_progress import GroupProgress, Offsets
from topsync.stream.producer import Producer
from topsync.stream.topics import Registry

STEPS: Final = {"orders": "erasing orders", "rest": "erasing all the rest"}
"""As people are shown them."""

ASKED_AT_ONCE: Final = 1000
"""Orders asked for together: some hundred kilobytes."""

ASK_AGAIN_SECONDS: Final = 2.0
"""Between two requests for what was stored while the first was made."""

QUIET_SECONDS: Final = 5.0
"""After so long without progress people are told what is waited for."""

POLL_SECONDS: Final = 0.2
LOOKING_SHARE: Final = 0.2
"""Of the time at most: of a large seller, counting what is left takes a while."""

GOES_ON: Final = "run the same command again, and it goes on from here"

NOTHING: Final = Left(0, 0)

Report = Callable[[str, int, int | None], None]
"""Told of (step, done, total if known)."""


class NotErasedError(OperatorError):
    """The erasing did not come to its end. The text says what to do."""


@dataclass(frozen=True, slots=True)
class ErasureOutcome:
    """What was done."""

    orders: int
    rows: int
    """Of everything but orders."""
    snapshots_kept: str | None
    """Why what was read of `snapshots` is still there; None where it was deleted."""
    platform_told: bool


@dataclass(slots=True)
class _Patience:
    """Tells for how long nothing has moved."""

    moved_at: float
    told: bool = False
    _least: tuple[int, int] | None = None

    def quiet_seconds(self, left: tuple[int, int], now: float) -> float:
        """How long nothing has been less than it ever was."""
        if self._least is None or left < self._least:
            self._least, self.moved_at, self.told = left, now, False
        return now - self.moved_at


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
    """Whether it could be told; asked again by the next run where not."""
    report: Report
    say: Callable[[str], None]
    """For what people have to know meanwhile."""
    patience_seconds: float
    """How long the enrichers may make no progress."""

    @property
    def _seller_id(self) -> int:
        return self.seller.seller_id

    async def run(self) -> ErasureOutcome:
        """Erase everything.

        Raises:
            NotErasedError: the enrichers do not get on.
            PublishError: Kafka does not answer.
        """
        state = await erasures.begin(self.pool, self._seller_id)
        failpoints.reach("erasure.begun")
        told = state.platform_told
        if not told and (told := await self.tell_platform()):
            failpoints.reach("erasure.platform_told")
            await erasures.platform_told(self.pool, self._seller_id)
            failpoints.reach("erasure.platform_noted")
        if state.finished_at is not None:
            return ErasureOutcome(state.orders, 0, None, told)
        await self._erase_orders(state)
        failpoints.reach("erasure.orders_gone")
        kept = await self._delete_snapshots()
        failpoints.reach("erasure.snapshots_deleted")
        rows = await self._clear()
        failpoints.reach("erasure.rows_cleared")
        # Told before it is noted: after a crash in between it is told once more.
        await self._notify(state)
        failpoints.reach("erasure.told")
        await erasures.finish(self.pool, self._seller_id)
        return ErasureOutcome(state.orders, rows, kept, told)

    async def _erase_orders(self, state: ErasureProgress) -> None:
        """Ask for what is there, until the owners have done it and have nothing of before in hand.

        What a batch under way stores behind the first request is found when the batch is done: the offsets
        that were there before it are committed then.
        """
        loop = asyncio.get_running_loop()
        marks = await self._ask()
        asked_at = loop.time()
        patience = _Patience(asked_at)
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
            # Not all of it before the owners have read all of it.
            self.report("orders", min(total - left.orders, max(0, total - 1)), total)
            self._judge(patience, left, behind, loop.time())
            await asyncio.sleep(max(POLL_SECONDS, (loop.time() - began) * (1 / LOOKING_SHARE - 1)))

    def _judge(self, patience: _Patience, left: Left, behind: int, now: float) -> None:
        quiet_seconds = patience.quiet_seconds((left.orders + left.tombstones, behind), now)
        if quiet_seconds > self.patience_seconds:
            raise NotErasedError(
                f"{left.orders} orders of {self.seller.nick} are not erased, {left.tombstones} tombstones "
                f"not published, and nothing has moved for {self.patience_seconds:g} s. "
                f"Start `topsync enrich`; {GOES_ON}"
            )
        if quiet_seconds > QUIET_SECONDS and not patience.told:
            patience.told = True
            self.say(
                f"nothing moves: waiting for the enrichers, which have {behind} records to read first; is "
                "`topsync enrich` running?"
            )

    async def _ask(self) -> Offsets:
        """Ask for every order that is in the table; returns what the owners must have read for it."""
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
        total, done = found.export_rows + found.windows + found.refetches, 0
        self.report("rest", 0, total)
        async for deleted in erasures.clear(self.pool, self._seller_id):
            done += deleted
            self.report("rest", min(done, total), total)
        self.report("rest", max(done, total), max(done, total))
        return done

    async def _notify(self, state: ErasureProgress) -> None:
        told = SellerErased(seller_id=self._seller_id, orders=state.orders)
        # The platform's clock has no part in this, and may not even answer.
        record = records.notification(self.topics.notifications.name, told, at=datetime.now(UTC))
        await self.producer.publish([record])
