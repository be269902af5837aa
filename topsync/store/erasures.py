"""Erasing a seller's data: its progress, and the tombstones that still have to be published.

An erased seller has the state `SellerState.ERASED`: nothing of it is written any more, whatever is still
under way. Only the owners of the partitions take its orders out of the table. Each order leaves a tombstone,
which its owner publishes and then forgets. After a crash, the tombstones that are left are found here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from topsync.model.kind import Kind
from topsync.store.database import Pool, sql
from topsync.store.version_tables import TABLES, sql_over
from topsync.store.versions import NotOwnerError

UNDER_WAY: Final = "is being erased: run `topsync sellers erase` again until it is done"
DONE: Final = "its data was erased"

ROWS_AT_ONCE: Final = 10_000
"""Rows of the larger tables that a statement deletes."""

LARGE_TABLES: Final = ("slice_rows", "export_rows", "windows", "refetches")
"""The tables that grow with the orders or with the years."""


@dataclass(frozen=True, slots=True)
class Preview:
    """How many rows there are of a seller."""

    stored: Mapping[Kind, int]
    """Orders, and what belongs to them."""
    refetches: int
    bootstraps: int
    certificates: int
    slice_rows: int
    windows: int
    gaps: int
    replays: int


@dataclass(frozen=True, slots=True)
class ErasureProgress:
    """The progress of a seller's erasure. Times are the database's clock."""

    begun_at: datetime
    orders: int
    """Orders of which anything was stored when it began, themselves or a part."""
    platform_notified: bool
    """Whether the platform has been asked to send no more messages of the seller."""
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Left:
    """What the owners of the partitions still have to do."""

    orders: int
    """Orders of which anything is in the tables, themselves or a part."""
    tombstones: int
    """Removed from the table, but perhaps not published in the topic."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of an erased order, or of a part of it, until its tombstone is in the topic."""

    kind: Kind
    id: int
    tid: int
    """The order that it belongs to; the owner of that order's partition publishes it."""
    seller_id: int
    revision: int
    """The last revision plus one: for readers the tombstone is another version."""
    erased_at: datetime
    """Platform time."""


async def preview(pool: Pool, seller_id: int) -> Preview:
    """What would be erased."""
    row = await pool.fetchrow(sql("erasures.preview"), seller_id)
    assert row is not None
    stored = {kind: await table.count_of_seller(pool, seller_id) for kind, table in TABLES.items()}
    return Preview(stored=stored, **row)


async def begin(pool: Pool, seller_id: int) -> ErasureProgress:
    """Give a seller the state erased, without a session, or find the erasure that was begun. Idempotent.

    From here on nothing is written for it, except what batches under way may still store.
    """
    async with pool.acquire() as connection, connection.transaction():
        if await connection.execute(sql("erasures.stop"), seller_id, UNDER_WAY) == "UPDATE 1":
            await connection.execute(sql_over("erasures.begin"), seller_id)
    found = await get(pool, seller_id)
    assert found is not None, "an erased seller has an erasure"
    return found


async def get(pool: Pool, seller_id: int) -> ErasureProgress | None:
    """The erasure of a seller that is erased now; None for any other seller."""
    row = await pool.fetchrow(sql("erasures.get"), seller_id)
    return None if row is None else ErasureProgress(*row)


async def platform_notified(pool: Pool, seller_id: int) -> None:
    """Note that the platform sends no more messages of the seller. Idempotent."""
    await pool.execute(sql("erasures.platform_notified"), seller_id)


async def tids(pool: Pool, seller_id: int, *, at_once: int) -> AsyncIterator[list[int]]:
    """The orders of which something is still in the tables, `at_once` at a time."""
    async with pool.acquire() as connection, connection.transaction():
        some: list[int] = []
        async for row in connection.cursor(sql_over("erasures.orders"), seller_id, prefetch=at_once):
            some.append(row["tid"])
            if len(some) == at_once:
                yield some
                some = []
        if some:
            yield some


async def left(pool: Pool, seller_id: int) -> Left:
    """What the owners of the partitions still have to do."""
    row = await pool.fetchrow(sql_over("erasures.left"), seller_id)
    assert row is not None
    return Left(*row)


async def erase(pool: Pool, tids: Iterable[int], *, partition: int, epoch: int, at: datetime) -> int:
    """Take these orders of a partition, with their parts, out of the tables, if their sellers are erased.

    Returns how many orders there were. Idempotent: an erased order leaves no second tombstone. `at` is
    platform time.

    Raises:
        NotOwnerError: the epoch is no longer the partition's; nothing was erased.
    """
    row = await pool.fetchrow(sql_over("erasures.erase_orders"), partition, epoch, list(tids), at)
    if row is None or not row["owned"]:
        raise NotOwnerError(f"partition {partition} has a newer owner than epoch {epoch}")
    return int(row["erased"])


async def tombstones(pool: Pool, tids: Iterable[int]) -> list[Tombstone]:
    """The tombstones of these orders that still have to be published."""
    return _tombstones(await pool.fetch(sql("erasures.tombstones"), list(tids)))


async def all_tombstones(pool: Pool) -> list[Tombstone]:
    """All tombstones that still have to be published, of all partitions: for the repair after a crash."""
    return _tombstones(await pool.fetch(sql("erasures.all_tombstones")))


def _tombstones(rows: Iterable[asyncpg.Record]) -> list[Tombstone]:
    """Those that this release can publish: a newer release publishes the others."""
    return [Tombstone(kind, *rest) for word, *rest in rows if (kind := Kind.known(word)) is not None]


async def forget_tombstones(pool: Pool, published: Sequence[Tombstone]) -> None:
    """Note that the topic has these tombstones. Idempotent."""
    await pool.execute(
        sql("erasures.forget_tombstones"),
        [tombstone.kind.value for tombstone in published],
        [tombstone.id for tombstone in published],
    )


async def clear(pool: Pool, seller_id: int) -> AsyncIterator[int]:
    """Delete everything else of a seller, some rows at a time; yields how many. Idempotent."""
    for table in LARGE_TABLES:
        while deleted := _count(await pool.execute(sql(f"erasures.clear_{table}"), seller_id, ROWS_AT_ONCE)):
            yield deleted
    async with pool.acquire() as connection, connection.transaction():
        # A bulk start cannot add rows after this: it holds a shared lock of these while it adds.
        await connection.execute(sql("erasures.lock_bootstrap"), seller_id)
        await connection.execute(sql("erasures.lock_export"), seller_id)
        await connection.execute(sql("erasures.lock_slices"), seller_id)
        deleted = 0
        for table in (
            "rest_of_slice_rows",
            "export_slices",
            "rest_of_export_rows",
            "exports",
            "bootstraps",
            "certificates",
            "window_days",
            "gaps",
            "replay_pieces",
            "replays",
            "republications",
            "comparisons",
            "differences",
            "comparison_failures",
            "session_warnings",
            "detail_tasks",
            "open_letters",
            "last_lists",
            "visibility_changes",
            "anomalies",
            "coverage",
        ):
            deleted += _count(await connection.execute(sql(f"erasures.clear_{table}"), seller_id))
    yield deleted


def _count(tag: str) -> int:
    return int(tag.rsplit(" ", 1)[1])


async def finish(pool: Pool, seller_id: int) -> None:
    """Note that nothing of the seller is left: now it can be added again. Idempotent."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(sql("erasures.finish"), seller_id)
        await connection.execute(sql("erasures.set_reason"), seller_id, DONE)


async def erased_sellers(pool: Pool, among: Iterable[int] | None = None) -> set[int]:
    """The sellers that are erased now: all, or only those in `among`."""
    rows = await pool.fetch(sql("erasures.erased"), None if among is None else list(among))
    return {row["seller_id"] for row in rows}
