"""Fetches named orders of a seller again: a piece of a replay.

An order is answered when it is stored and published from a fetch that began after the replay came to it, or
when it is known why that will not be: the platform does not know it, it has become a dead letter, its seller
is away. A crash at any point repeats hints at most; what was fetched meanwhile answers them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from schemas.change import Change, Source
from topsync.base import failpoints
from topsync.base.clock import ServerClock
from topsync.base.stall_timer import StallTimer
from topsync.coverage import replay_found, replay_requests
from topsync.coverage.replay_found import Found, PartOf
from topsync.model import named
from topsync.model.kind import Kind
from topsync.model.listed import Listed
from topsync.model.named import Named
from topsync.model.refetch import OrderPart
from topsync.store import dead_letters, open_letters, orders, refetches, sellers
from topsync.store.database import Pool
from topsync.store.replay_pieces import ReplayPiece
from topsync.store.version_tables import TABLES
from topsync.stream import records
from topsync.stream.producer import Producer
from topsync.stream.topics import Registry

EVENT: Final = "replayed"
"""Stands for a message's topic in the hints."""

POLL_SECONDS: Final = 0.2

FRESH_FOR: Final = timedelta(seconds=2)
"""What was fetched so shortly before is as good: two processes' estimates of platform time differ."""

ASKED_AGAIN: Final = 2
"""An order may appear some seconds late. It does not exist where the platform does not know it after so many
more attempts, which take some six seconds."""

NOT_STORED: Final = "not_stored"
"""The writers did not store it in time, and nothing says why."""

Noted = Callable[[Found], Awaitable[None]]
"""Writes down how far a piece came."""


@dataclass(slots=True)
class _Asking:
    """A piece under way."""

    piece: ReplayPiece
    found: Found
    since: datetime
    left: dict[int, Listed]
    """Not answered yet, by tid."""
    asked: set[int]
    """Hinted by this process."""

    def is_answered(self, tids: Iterable[int]) -> None:
        for tid in tids:
            self.left.pop(tid, None)

    def is_missing(self, reason: str, tids: Iterable[int]) -> None:
        known = [tid for tid in tids if tid in self.left]
        self.found = self.found.with_missing(reason, known)
        self.is_answered(known)


@dataclass(frozen=True, slots=True)
class OrderFetching:
    """Everything that it needs."""

    pool: Pool
    producer: Producer
    topics: Registry
    clock: ServerClock
    calls_per_second: float
    at_once: int
    """Pieces that are under way at the same time. All together ask for no more than the budget answers in a
    second: a fresh change that comes behind them has to wait that long."""
    stored_within_seconds: float

    async def preview(self, piece: ReplayPiece) -> Found:
        """What fetching them would find now; fetches nothing."""
        tids = _tids(piece)
        held = await orders.sellers_of(self.pool, tids)
        found = Found(orders_asked=len(tids), orders_held=len(held))
        away = await self._away(piece.seller_id)
        return found if away is None else found.with_missing(away, tids)

    async def fetch(self, piece: ReplayPiece, *, reason: str, noted: Noted) -> Found:
        """Ask for the orders until each is answered. Idempotent.

        Raises:
            OSError, asyncpg.PostgresError, PublishError: a server is away; the piece goes on later.
        """
        asking = await self._begin(piece, noted)
        timer, loop = StallTimer(self.stored_within_seconds), asyncio.get_running_loop()
        while True:
            await self._settle(asking)
            if not asking.left:
                break
            if timer.is_stalled(len(asking.left), at_seconds=loop.time()):
                await self._give_up(asking)
                break
            await self._ask(asking, reason)
            await asyncio.sleep(POLL_SECONDS)
        found = asking.found
        return replace(
            found, orders_fetched=(found.orders_asked or 0) - found.missing, asked_at=None, parts=()
        )

    async def _begin(self, piece: ReplayPiece, noted: Noted) -> _Asking:
        """Note since when the orders are wanted, and forget their dead letters: a failure makes new ones."""
        tids, found = _tids(piece), replay_found.read(piece.outcome)
        letters = await open_letters.of_orders(self.pool, tids)
        if found.asked_at is None:
            held = await orders.sellers_of(self.pool, tids)
            found = Found(
                orders_asked=len(tids),
                orders_held=len(held),
                asked_at=self.clock.now() - FRESH_FOR,
                parts=tuple(
                    PartOf(letter.subject.tid, OrderPart(letter.subject.kind, letter.subject.id))
                    for letter in letters
                    if not letter.subject.kind.leads
                ),
            )
            await noted(found)
            failpoints.reach("replay.orders_noted")
        if event_ids := [letter.event_id for letter in letters]:
            await open_letters.forget(self.pool, event_ids)
            await dead_letters.mark_retried(self.pool, event_ids, kept=self.topics.letters_kept)
        assert found.asked_at is not None
        wanted = {tid: Listed(tid, None, found.asked_at) for tid in tids}
        return _Asking(piece, found, found.asked_at, wanted, set())

    async def _settle(self, asking: _Asking) -> None:
        """Take out what is answered by now."""
        left = list(asking.left.values())
        missing = await TABLES[Kind.ORDER].outstanding(self.pool, left, latest_now=self.clock.latest_now())
        asking.is_answered(asking.left.keys() - missing)
        if not asking.left:
            return
        if (away := await self._away(asking.piece.seller_id)) is not None:
            asking.is_missing(away, list(asking.left))
            return
        for letter in await open_letters.of_orders(self.pool, asking.left):
            if letter.subject.kind.leads and letter.subject.tid in asking.asked:
                asking.is_missing(letter.subject.reason, [letter.subject.tid])
        unknown = await refetches.not_there(self.pool, asking.left, since=asking.since, attempts=ASKED_AGAIN)
        if unknown:
            asking.is_missing("not_there", unknown)
            await refetches.give_up_asked(self.pool, unknown, since=asking.since)

    async def _give_up(self, asking: _Asking) -> None:
        """Say why the rest is not stored. What the platform did not show as promised is asked for again by
        itself.
        """
        reasons = await refetches.reasons(self.pool, asking.left)
        for tid in list(asking.left):
            asking.is_missing(reasons.get(tid, NOT_STORED), [tid])

    async def _ask(self, asking: _Asking, reason: str) -> None:
        """Hint the next orders, as many as there is room for."""
        room = self._room - len(asking.asked & asking.left.keys())
        following = [tid for tid in asking.left if tid not in asking.asked][: max(0, room)]
        if not following:
            return
        now = self.clock.now()
        await self.producer.publish(
            [
                records.change(self.topics.changes.name, hint)
                for tid in following
                for hint in self._hints(asking, tid, reason, now)
            ]
        )
        failpoints.reach("replay.orders_hinted")
        asking.asked.update(following)

    def _hints(self, asking: _Asking, tid: int, reason: str, now: datetime) -> list[Change]:
        order = Change(
            seller_id=asking.piece.seller_id,
            tid=tid,
            event=EVENT,
            occurred_at=asking.since,
            settled_after=asking.since,
            received_at=now,
            source=Source.OPERATOR,
            reason=reason,
        )
        parts = [part for of_tid, part in asking.found.parts if of_tid == tid]
        return [order, *(named.naming(order, part.kind, Named(part.id)) for part in parts)]

    @property
    def _room(self) -> int:
        return max(1, math.ceil(self.calls_per_second / self.at_once))

    async def _away(self, seller_id: int) -> str | None:
        return replay_requests.away(await sellers.get(self.pool, seller_id))


def _tids(piece: ReplayPiece) -> Sequence[int]:
    assert piece.tids is not None
    return piece.tids
