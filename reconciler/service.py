"""The reconciler: with other processes like it, pulls the sellers until they are proven, and does the duties.

The processes share the work by leases (`membership`). A process that lost its leases without noticing it,
since it stood still, claims nothing any more: each of its claims is fenced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from reconciler.duties import Duties
from reconciler.membership import BEAT_SECONDS, Membership
from reconciler.pulls import Pulls
from topsync.base import metrics, outages, telemetry
from topsync.base.service import Lifetime
from topsync.store import database
from topsync.store.database import OUTAGE_ERRORS, Connection, Pool
from topsync.store.work_leases import WorkKind, WorkLease

log = telemetry.get_logger(__name__)

FORMER_RELEASE_LOCK: Final = 0x72656364
"""Advisory lock (the letters `recd`) that a reconciler of the former release holds alone while it works. We
share it among us while we work, so during an upgrade either release works, and never both."""

HAND_BACK_SECONDS: Final = 2.0


@dataclass(slots=True)
class Reconciler:
    """The process."""

    pool: Pool
    membership: Membership
    pulls: Pulls
    duties: Duties
    hand_back: Callable[[], Awaitable[None]]
    """What duties do when the process ends in good order, and again before it begins; idempotent."""
    poll_seconds: float
    """How often it looks who is due."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """Something has ended, so there is room for something else; or the process is to end."""
    _stands_by: bool = False

    async def run(self, lifetime: Lifetime) -> None:
        """Work until the process is asked to end; what is under way is done again later, by others.

        It is ready once it has joined the others: in a rolling update, the next process ends only then.
        """
        stopping = asyncio.create_task(lifetime.wait_for_stop())
        stopping.add_done_callback(lambda _: self.woken.set())
        try:
            await outages.go_on(
                partial(self._work, lifetime),
                lifetime,
                errors=OUTAGE_ERRORS,
                what="cannot reconcile without the database; trying again",
            )
        finally:
            stopping.cancel()

    async def _work(self, lifetime: Lifetime) -> None:
        try:
            await self._work_with_database(lifetime)
        except OUTAGE_ERRORS:
            metrics.DATABASE_AWAY.set(1)
            raise

    async def _work_with_database(self, lifetime: Lifetime) -> None:
        await self._hand_back()
        async with self.pool.acquire() as connection:
            if not await database.try_shared_lock(connection, FORMER_RELEASE_LOCK):
                self._note_standing_by(lifetime)
                await lifetime.sleep(self.poll_seconds)
                return
            self._stands_by = False
            try:
                await self._rounds(connection, lifetime)
            finally:
                await self._end()
                await database.unlock_all(connection)

    def _note_standing_by(self, lifetime: Lifetime) -> None:
        if not lifetime.ready:  # or the other would never end
            lifetime.set_ready()
        if not self._stands_by:
            log.info("a reconciler of the former release works; standing by until it ends")
        self._stands_by = True

    async def _rounds(self, connection: Connection, lifetime: Lifetime) -> None:
        """Look around, by turns, and fill each place that becomes free in between."""
        loop = asyncio.get_running_loop()
        beat_at = look_at = loop.time()
        while not lifetime.stopping:
            self.woken.clear()
            self.duties.under_way.reap()
            self.pulls.reap()
            if loop.time() >= beat_at:
                beat_at = loop.time() + BEAT_SECONDS
                await self._share(connection)
                if not lifetime.ready:
                    lifetime.set_ready()
            if loop.time() >= look_at:
                look_at = loop.time() + self.poll_seconds
                self.duties.look(self.membership.held_duties)
                await self.pulls.look()
            self.pulls.fill()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(beat_at, look_at)):
                    await self.woken.wait()

    async def _share(self, connection: Connection) -> None:
        before = set(self.membership.held_duties)
        has_changed = await self.membership.look(connection, self._is_idle)
        metrics.DATABASE_AWAY.set(0)
        if has_changed:
            await self.duties.drop(before.difference(self.membership.held_duties))
            await self.pulls.hold(self.membership.sellers)

    def _is_idle(self, lease: WorkLease) -> bool:
        if lease.kind is WorkKind.DUTY:
            return self.duties.is_idle(lease.key)
        return int(lease.key) not in self.pulls.under_way

    async def _end(self) -> None:
        """End what is under way and give everything back.

        A database that is away is asked again, unless this process ends: then others find it silent.
        """
        await self.duties.drop(self.duties.known)
        await self.pulls.drop_all()
        with suppress(*OUTAGE_ERRORS):
            async with asyncio.timeout(HAND_BACK_SECONDS):
                await self._hand_back()

    async def _hand_back(self) -> None:
        await self.hand_back()
        await self.membership.leave()
