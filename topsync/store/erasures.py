"""Erasing a seller's data: how far it has come, and the tombstones that the topic does not have yet.

An erased seller is a state (`sellers.State.ERASED`): nothing of it is written any more, whatever is still on
its way. Its orders are taken out of the table by the owners of their partitions, and only by them; each
leaves a tombstone, which its owner publishes and then forgets. What came before a crash is found here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

import asyncpg

from topsync.model.kind import Kind
from topsync.store.database import Pool, sql
from topsync.store.versions import NotOwnerError

UNDER_WAY: Final = "is being erased: run `topsync sellers erase` again until it is done"
DONE: Final = "its data was erased"

ROWS_AT_ONCE: Final = 10_000
"""Rows of the larger tables that one statement deletes."""

LARGE_TABLES: Final = ("export_rows", "windows", "refetches")
"""What grows with the orders or with the years."""


@dataclass(frozen=True, slots=True)
class Preview:
    """How many rows of a seller there are, by what they are."""

    orders: int
    refunds: int
    refetches: int
    bootstraps: int
    certificates: int
    export_rows: int
    windows: int
    gaps: int
    replays: int


@dataclass(frozen=True, slots=True)
class ErasureProgress:
    """How far the erasing of a seller has come. Times are the database's clock."""

    begun_at: datetime
    orders: int
    """With anything stored, themselves or a refund, when it began."""
    platform_told: bool
    """Whether the platform was told to send no more messages of the seller."""
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Left:
    """What the owners of the partitions have still to do."""

    orders: int
    """With anything in the tables, themselves or a refund."""
    tombstones: int
    """Out of the table, and perhaps not told in the topic."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of something erased, until the topic says that it is gone."""

    kind: Kind
    id: int
    tid: int
    """The order that it belongs to: its partition's owner publishes it."""
    seller_id: int
    revision: int
    """One above the last one: for readers it is one more version."""
    erased_at: datetime
    """Platform time."""


async def preview(pool: Pool, seller_id: int) -> Preview:
    """What there is to be erased."""
    row = await pool.fetchrow(sql("erasures.preview"), seller_id)
    assert row is not None
    return Preview(**{field.name: row[field.name] for field in fields(Preview)})


async def begin(pool: Pool, seller_id: int) -> ErasureProgress:
    """Make a seller an erased one, without session, or find the erasure that was begun. Idempotent.

    From here on nothing is written for it, but for what batches that are under way may still store.
    """
    async with pool.acquire() as connection, connection.transaction():
        if await connection.execute(sql("erasures.stop"), seller_id, UNDER_WAY) == "UPDATE 1":
            await connection.execute(sql("erasures.begin"), seller_id)
    found = await get(pool, seller_id)
    assert found is not None, "an erased seller has an erasure"
    return found


async def get(pool: Pool, seller_id: int) -> ErasureProgress | None:
    """The erasure of a seller that is erased now; None of any other."""
    row = await pool.fetchrow(sql("erasures.get"), seller_id)
    return None if row is None else ErasureProgress(*row)


async def platform_told(pool: Pool, seller_id: int) -> None:
    """Note that the platform sends no more messages of the seller. Idempotent."""
    await pool.execute(sql("erasures.platform_told"), seller_id)


async def tids(pool: Pool, seller_id: int, *, at_once: int) -> AsyncIterator[list[int]]:
    """The orders of which something is still in the tables, some at a time."""
    async with pool.acquire() as connection, connection.transaction():
        some: list[int] = []
        async for row in connection.cursor(sql("erasures.orders"), seller_id, prefetch=at_once):
            some.append(row["tid"])
            if len(some) == at_once:
                yield some
                some = []
        if some:
            yield some


async def left(pool: Pool, seller_id: int) -> Left:
    """What the owners of the partitions have still to do."""
    row = await pool.fetchrow(sql("erasures.left"), seller_id)
    assert row is not None
    return Left(*row)


async def erase(pool: Pool, tids: Iterable[int], *, partition: int, epoch: int, at: datetime) -> int:
    """Take these orders of a partition, with their refunds, out of the tables, if their sellers are erased.

    Tells how many orders there were. Idempotent: what is gone leaves no second tombstone. `at` is
    platform time.

    Raises:
        NotOwnerError: the epoch is no longer the partition's; nothing was erased.
    """
    row = await pool.fetchrow(sql("erasures.erase_orders"), partition, epoch, list(tids), at)
    if row is None or not row["owned"]:
        raise NotOwnerError(f"partition {partition} has a newer owner than epoch {epoch}")
    return int(row["erased"])


async def tombstones(pool: Pool, tids: Iterable[int]) -> list[Tombstone]:
    """The tombstones of these orders that have still to be published."""
    return [_tombstone(row) for row in await pool.fetch(sql("erasures.tombstones"), list(tids))]


async def all_tombstones(pool: Pool) -> list[Tombstone]:
    """Every tombstone that has still to be published, of all partitions: for the repair after a crash."""
    return [_tombstone(row) for row in await pool.fetch(sql("erasures.all_tombstones"))]


def _tombstone(row: asyncpg.Record) -> Tombstone:
    return Tombstone(
        kind=Kind(row["kind"]),
        id=row["id"],
        tid=row["tid"],
        seller_id=row["seller_id"],
        revision=row["revision"],
        erased_at=row["erased_at"],
    )


async def forget_tombstones(pool: Pool, published: Sequence[Tombstone]) -> None:
    """Note that the topic has these. Idempotent."""
    await pool.execute(
        sql("erasures.forget_tombstones"),
        [one.kind.value for one in published],
        [one.id for one in published],
    )


async def clear(pool: Pool, seller_id: int) -> AsyncIterator[int]:
    """Delete whatever else there is of a seller, some rows at a time; tells how many. Idempotent."""
    for table in LARGE_TABLES:
        while deleted := _count(await pool.execute(sql(f"erasures.clear_{table}"), seller_id, ROWS_AT_ONCE)):
            yield deleted
    async with pool.acquire() as connection, connection.transaction():
        # A bulk start under way adds no row behind this: it holds a share of these locks while it does.
        await connection.execute(sql("erasures.lock_bootstrap"), seller_id)
        await connection.execute(sql("erasures.lock_export"), seller_id)
        deleted = 0
        for table in (
            "rest_of_export_rows",
            "exports",
            "bootstraps",
            "gaps",
            "replay_jobs",
            "republications",
            "session_warnings",
            "detail_tasks",
            "open_letters",
            "coverage",
        ):
            deleted += _count(await connection.execute(sql(f"erasures.clear_{table}"), seller_id))
    yield deleted


def _count(tag: str) -> int:
    return int(tag.rsplit(" ", 1)[1])


async def finish(pool: Pool, seller_id: int) -> None:
    """Note that nothing of the seller is left: from now on it can be added again. Idempotent."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(sql("erasures.finish"), seller_id)
        await connection.execute(sql("erasures.set_reason"), seller_id, DONE)


async def erased_sellers(pool: Pool, among: Iterable[int] | None = None) -> set[int]:
    """The sellers that are erased now: all, or those of some."""
    rows = await pool.fetch(sql("erasures.erased"), None if among is None else list(among))
    return {row["seller_id"] for row in rows}
