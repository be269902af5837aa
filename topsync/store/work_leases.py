"""Leases of work: which reconciler does what, and the fence that keeps a former holder from writing.

A process that is alive renews a row of its own, with one statement for everything that it holds. Others
remove the row when its connection has ended, or when it was not renewed for a while; then the process holds
nothing any more. Each lease counts how often it was taken (its epoch); what a holder writes about its work,
it writes in a transaction that begins with `fenced`. Time is the database's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from topsync.store import database
from topsync.store.database import Connection, Pool, sql

SHARING_LOCK: Final = 0x73686172
"""Advisory lock under which a single process at a time decides what it takes (the letters `shar`)."""


MEMBER_LOCKS: Final = 0x6D656D62
"""Advisory locks of the processes that are alive (the letters `memb`), each on its own connection."""


class WorkKind(StrEnum):
    """A kind of work that is leased."""

    SELLER = "seller"
    """The pulls of a seller; the key is its id."""
    DUTY = "duty"
    """What is done once for all sellers; the key is its name."""


@dataclass(frozen=True, slots=True)
class WorkLease:
    """The right to do a piece of work, until somebody else takes it."""

    kind: WorkKind
    key: str
    epoch: int


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease of a process."""

    lease: WorkLease
    pulled_at: datetime | None
    """When the seller's last pull that ended well began, whoever made it; platform time."""


@dataclass(frozen=True, slots=True)
class WorkShares:
    """Who is alive, and how much of each kind of work is with whom."""

    members: Mapping[UUID, float]
    """Everybody who is alive, and since how many seconds."""
    held: Mapping[WorkKind, Mapping[UUID, int]]
    free: Mapping[WorkKind, int]


class LeaseLostError(RuntimeError):
    """The lease went to another process: nothing was written."""


async def join(connection: Connection, member: UUID, name: str) -> None:
    """Note that a process is alive, for as long as this connection lives and is renewed."""
    await connection.execute(sql("work_leases.join"), member, name, MEMBER_LOCKS)


async def beat(connection: Connection, member: UUID) -> bool:
    """Renew all of a process's leases; false when it was taken for dead, and holds none."""
    return await connection.execute(sql("work_leases.beat"), member) == "UPDATE 1"


async def leave(pool: Pool, member: UUID) -> None:
    """Give everything back: others take it at their next look. Idempotent."""
    await pool.execute(sql("work_leases.leave"), member)


@asynccontextmanager
async def sharing(connection: Connection) -> AsyncIterator[bool]:
    """A transaction in which nobody else takes or gives back; false when another process is at it."""
    async with connection.transaction():
        await database.end_when_idle(connection)
        yield await database.try_transaction_lock(connection, SHARING_LOCK)


async def bury(connection: Connection, *, silent_for: timedelta) -> list[str]:
    """Remove the processes that have ended, or were silent for so long; returns their names."""
    return [row["name"] for row in await connection.fetch(sql("work_leases.bury"), silent_for, MEMBER_LOCKS)]


async def add(connection: Connection, duties: Collection[str]) -> None:
    """Make the leases of new sellers and duties. Idempotent."""
    await connection.execute(sql("work_leases.add"), list(duties))


async def shares(connection: Connection, duties: Collection[str]) -> WorkShares:
    """How the work is shared; of the duties, those that are named."""
    members = {row["id"]: row["age"] for row in await connection.fetch(sql("work_leases.members"))}
    held: dict[WorkKind, dict[UUID, int]] = {kind: dict.fromkeys(members, 0) for kind in WorkKind}
    free = dict.fromkeys(WorkKind, 0)
    for kind, holder, leases in await connection.fetch(sql("work_leases.shares"), list(duties)):
        if holder is None:
            free[WorkKind(kind)] = leases
        else:
            held[WorkKind(kind)][holder] = leases
    return WorkShares(members, held, free)


async def take(
    connection: Connection, member: UUID, kind: WorkKind, *, duties: Collection[str], limit: int
) -> None:
    """Take free leases, up to `limit`; of the duties, only those that are named."""
    await connection.execute(sql("work_leases.take"), member, kind.value, list(duties), limit)


async def give_back(connection: Connection, member: UUID, leases: Sequence[WorkLease]) -> None:
    """Give some leases back. Idempotent."""
    for kind in WorkKind:
        if keys := [lease.key for lease in leases if lease.kind is kind]:
            await connection.execute(sql("work_leases.give_back"), member, kind.value, keys)


async def held(connection: Connection, member: UUID) -> list[HeldLease]:
    """What a process holds."""
    return [
        HeldLease(WorkLease(WorkKind(row["kind"]), row["key"], row["epoch"]), row["pulled_at"])
        for row in await connection.fetch(sql("work_leases.held"), member)
    ]


async def pulled_at(pool: Pool, seller_ids: Collection[int]) -> dict[int, datetime]:
    """When the last pull of these sellers that ended well began, of those that were pulled; platform time."""
    rows = await pool.fetch(sql("work_leases.pulled_at"), [str(seller_id) for seller_id in seller_ids])
    return {row["seller_id"]: row["pulled_at"] for row in rows}


@asynccontextmanager
async def fenced(pool: Pool, lease: WorkLease | None) -> AsyncIterator[Connection]:
    """A transaction that only the lease's holder can have; anybody where there is no lease.

    While it is open, nobody takes the lease. A process that stands still within it loses the transaction
    soon.

    Raises:
        LeaseLostError: the lease went to another process.
    """
    async with pool.acquire() as connection, connection.transaction():
        if lease is not None:
            await database.end_when_idle(connection)
            await _require(connection, lease)
        yield connection


async def _require(connection: Connection, lease: WorkLease) -> None:
    if not await connection.fetchval(sql("work_leases.fence"), lease.kind.value, lease.key, lease.epoch):
        raise LeaseLostError(f"another process has {lease.kind} {lease.key} now")


async def note_pull(connection: Connection, lease: WorkLease, began_at: datetime) -> None:
    """Note, for the next holder, when the seller's last pull began; platform time."""
    await connection.execute(sql("work_leases.pulled"), lease.kind.value, lease.key, lease.epoch, began_at)
