"""This process among the reconcilers: what it holds, and how it takes and gives back.

It looks every second. A look renews everything that it holds, in a statement of its own, so that nothing that
follows can hold that up; removes processes that have ended; and takes or gives back what `sharing` says. When
a process dies, its connection ends, and others take its work at their next look. When it stands still, or its
machine is gone, they take it within twelve seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from reconciler import sharing
from topsync.base import failpoints, identity, metrics, telemetry
from topsync.store import work_leases
from topsync.store.database import Connection, Pool
from topsync.store.work_leases import HeldLease, WorkKind, WorkLease, WorkShares

log = telemetry.get_logger(__name__)

BEAT_SECONDS: Final = 1.0
"""Between two looks. What a process gives back in good order is taken within this time."""

SILENT_FOR: Final = timedelta(seconds=10)
"""A process that has not renewed its leases for so long, by the database's clock, is taken for dead. A busy
machine or a slow statement may hold a process up for some seconds; 15 s is what a hand-over may take."""

IsIdle = Callable[[WorkLease], bool]
"""Whether nothing of a piece of work is under way: only then it is given to another process."""


@dataclass(slots=True)
class Membership:
    """What this process holds."""

    pool: Pool
    duties: Collection[str]
    """The duties that this release knows."""
    calm_after_seconds: float
    """How long after a process joined the others begin to give it its share."""
    id: UUID = field(default_factory=uuid4)
    _is_member: bool = False
    _held: dict[tuple[WorkKind, str], HeldLease] = field(default_factory=dict)

    @property
    def sellers(self) -> dict[int, HeldLease]:
        """The sellers whose pulls it makes."""
        return {int(key): each for (kind, key), each in self._held.items() if kind is WorkKind.SELLER}

    @property
    def held_duties(self) -> list[str]:
        """The duties that it carries out."""
        return [key for kind, key in self._held if kind is WorkKind.DUTY]

    async def look(self, connection: Connection, is_idle: IsIdle) -> bool:
        """Renew what is held, take and give back; whether `sellers` and `held_duties` are other than before.

        `connection` is always the same between two `leave`; it is in no transaction.

        Raises:
            OSError, asyncpg.PostgresError: the database is away.
        """
        # As long as it is not taken for dead, nobody takes anything from it: what it holds is read again only
        # where it has joined, taken or given back.
        is_other = not self._is_member or not await work_leases.beat(connection, self.id)
        if is_other:
            await self._join(connection)
        failpoints.reach("sharing.renewed")
        async with work_leases.sharing(connection) as is_our_turn:
            if is_our_turn and await self._share(connection, is_idle):
                is_other = True
        failpoints.reach("sharing.shared")
        if is_other:
            await self._read(connection)
        return is_other

    async def _read(self, connection: Connection) -> None:
        found = await work_leases.held(connection, self.id)
        self._held = {(each.lease.kind, each.lease.key): each for each in found}
        metrics.LEASES_HELD.labels(WorkKind.SELLER.value).set(len(self.sellers))
        metrics.LEASES_HELD.labels(WorkKind.DUTY.value).set(len(self.held_duties))

    async def leave(self) -> None:
        """Give everything back. Idempotent.

        Raises:
            OSError, asyncpg.PostgresError: the database is away; others take it in a while.
        """
        self._held.clear()
        for kind in WorkKind:
            metrics.LEASES_HELD.labels(kind.value).set(0)
        if self._is_member:
            await work_leases.leave(self.pool, self.id)
            self._is_member = False

    async def _join(self, connection: Connection) -> None:
        """Become a member, under a new name: the former is that of a dead process."""
        if self._is_member:
            log.warning("others took this process for dead, and have its work", held=len(self._held))
        self.id, self._is_member = uuid4(), False
        await work_leases.join(connection, self.id, identity.connection_name())
        self._is_member = True

    async def _share(self, connection: Connection, is_idle: IsIdle) -> bool:
        """Take and give back; whether there was anything to do."""
        for name in await work_leases.bury(connection, silent_for=SILENT_FOR):
            log.warning("a reconciler has ended or is silent; its work is taken over", process=name)
        await work_leases.add(connection, self.duties)
        now = await work_leases.shares(connection, self.duties)
        if self.id not in now.members:  # we are the silent process
            return False
        is_calm = min(now.members.values()) >= self.calm_after_seconds
        steps = [await self._step(connection, kind, now, is_idle, is_calm=is_calm) for kind in WorkKind]
        return any(step != sharing.Step() for step in steps)

    async def _step(
        self, connection: Connection, kind: WorkKind, now: WorkShares, is_idle: IsIdle, *, is_calm: bool
    ) -> sharing.Step:
        wanted = sharing.step(self.id, now.held[kind], now.free[kind], now.members, is_calm=is_calm)
        if wanted.take:
            await work_leases.take(connection, self.id, kind, duties=self.duties, limit=wanted.take)
            log.info("work taken", kind=kind, leases=wanted.take, processes=len(now.members))
        if wanted.give:
            given = self._to_give(kind, wanted.give, is_idle)
            await work_leases.give_back(connection, self.id, given)
            log.info("work given to others", kind=kind, leases=len(given), processes=len(now.members))
        return wanted

    def _to_give(self, kind: WorkKind, count: int, is_idle: IsIdle) -> list[WorkLease]:
        """What has moved least so far goes first, so that nothing moves again and again."""
        idle = [each.lease for each in self._held.values() if each.lease.kind is kind and is_idle(each.lease)]
        return sorted(idle, key=lambda lease: (lease.epoch, lease.key))[:count]
