"""Bootstraps and their exports: how far each seller's bulk start is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import asyncpg
import orjson

from topsync.model.span import Span
from topsync.store import coverage, sellers
from topsync.store.database import Pool, sql
from topsync.store.sellers import ErasedError


class BootstrapStep(StrEnum):
    """The last step that is done; the next run goes on after it."""

    SUBSCRIBED = "subscribed"
    REQUESTED = "requested"
    DOWNLOADED = "downloaded"
    LOADED = "loaded"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Export:
    """The export task of a bootstrap, and its result."""

    task_id: int
    created_at: datetime
    """No state in the file is older than this."""
    adopted: bool
    check_code: str | None
    file_bytes: int | None
    lines: int | None
    published: int | None
    repaired: int | None
    refused: int | None


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A seller's bulk start."""

    seller_id: int
    step: BootstrapStep
    first_day: date
    day_zero: date
    """The platform's day on which the export was requested: the export holds orders created before that
    day."""
    started_at: datetime
    failed_exports: int
    """How many tasks the platform gave up. It would answer the same request with the same task again."""
    certificate: Mapping[str, object] | None
    export: Export | None


def _read(row: asyncpg.Record) -> Bootstrap:
    export = None
    if row["task_id"] is not None:
        export = Export(
            row["task_id"],
            row["created_at"],
            row["adopted"],
            row["check_code"],
            row["file_bytes"],
            row["lines"],
            row["published"],
            row["repaired"],
            row["refused"],
        )
    certificate = orjson.loads(row["certificate"]) if row["certificate"] else None
    return Bootstrap(
        row["seller_id"],
        BootstrapStep(row["state"]),
        row["first_day"],
        row["day_zero"],
        row["started_at"],
        row["failed_exports"],
        certificate,
        export,
    )


async def begin(pool: Pool, seller_id: int, *, first_day: date, day_zero: date, at: datetime) -> Bootstrap:
    """Begin a bootstrap, or find the seller's bootstrap that is under way.

    Raises:
        ErasedError: the seller is erased.
    """
    await pool.execute(sql("bootstraps.begin"), seller_id, first_day, day_zero, at)
    return await under_way(pool, seller_id)


async def get(pool: Pool, seller_id: int) -> Bootstrap | None:
    """A seller's bootstrap; None if it never began."""
    row = await pool.fetchrow(sql("bootstraps.get"), seller_id)
    return _read(row) if row else None


async def under_way(pool: Pool, seller_id: int) -> Bootstrap:
    """A seller's bootstrap, which must have begun.

    Raises:
        ErasedError: the seller has been erased since, and its bootstrap with it.
    """
    found = await get(pool, seller_id)
    if found is None:
        raise _erased(seller_id)
    return found


def _erased(seller_id: int) -> ErasedError:
    return ErasedError(f"seller {seller_id} has been erased: there is nothing to start")


async def requested(
    pool: Pool, seller_id: int, *, task_id: int, created_at: datetime, created_on: date, adopted: bool
) -> None:
    """Note the export task; an adopted task of an earlier day moves day zero back.

    Raises:
        ErasedError: the seller has been erased.
    """
    async with pool.acquire() as connection, connection.transaction():
        tag = await connection.execute(sql("bootstraps.save_export"), seller_id, task_id, created_at, adopted)
        if tag != "INSERT 0 1":
            raise _erased(seller_id)
        await connection.execute(sql("bootstraps.move_day_zero"), seller_id, created_on)
        await connection.execute(sql("bootstraps.set_state"), seller_id, BootstrapStep.REQUESTED.value)


async def ask_again(pool: Pool, seller_id: int) -> None:
    """Forget a task that expired: the next step asks for a new task."""
    await pool.execute(sql("bootstraps.set_state"), seller_id, BootstrapStep.SUBSCRIBED.value)


async def export_failed(pool: Pool, seller_id: int) -> None:
    """Forget a task that the platform gave up, and count it: the next step makes a different request."""
    await pool.execute(sql("bootstraps.export_failed"), seller_id, BootstrapStep.SUBSCRIBED.value)


async def download_again(pool: Pool, seller_id: int) -> None:
    """Forget a file that is gone: the next step downloads it again."""
    await pool.execute(sql("bootstraps.set_state"), seller_id, BootstrapStep.REQUESTED.value)


async def downloaded(pool: Pool, seller_id: int, *, check_code: str | None, file_bytes: int) -> None:
    """Note that the file is here and verified."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(sql("bootstraps.save_file"), seller_id, check_code, file_bytes)
        await connection.execute(sql("bootstraps.clear_rows"), seller_id)
        await connection.execute(sql("bootstraps.set_state"), seller_id, BootstrapStep.DOWNLOADED.value)


async def add_rows(pool: Pool, seller_id: int, rows: Sequence[tuple[int, datetime | None]]) -> None:
    """Note which orders the file holds; `modified` is None for a line that is repaired by id. Idempotent.

    Raises:
        ErasedError: the seller has been erased.
    """
    newest: dict[int, datetime | None] = {}
    for tid, modified in rows:
        known = newest.get(tid)
        newest[tid] = modified if known is None or (modified is not None and modified > known) else known
    tag = await pool.execute(
        sql("bootstraps.add_rows"), seller_id, list(newest.keys()), list(newest.values())
    )
    if newest and tag == "INSERT 0 0":
        raise _erased(seller_id)


async def loaded(
    pool: Pool, seller_id: int, *, lines: int, published: int, repaired: int, refused: int
) -> None:
    """Note that every line has been handed over, with the counts of the row-count equation."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            sql("bootstraps.save_counts"), seller_id, lines, published, repaired, refused
        )
        await connection.execute(sql("bootstraps.set_state"), seller_id, BootstrapStep.LOADED.value)


async def count_rows(pool: Pool, seller_id: int) -> int:
    """How many distinct orders the file holds."""
    return int(await pool.fetchval(sql("bootstraps.count_rows"), seller_id))


async def count_unstored(pool: Pool, seller_id: int, *, created_at: datetime) -> int:
    """How many of the file's orders still have to be stored and published."""
    return int(await pool.fetchval(sql("bootstraps.count_unstored"), seller_id, created_at))


async def first_unstored(
    pool: Pool, seller_id: int, *, created_at: datetime, after: int, at_once: int = 1000
) -> int | None:
    """Up to which id all of the file's orders are stored and published, as far as is easily seen; None: all.

    Looks at those beyond `after` alone, a few at a time, and no further than to the first few of which some
    are not.
    """
    while True:
        row = await pool.fetchrow(sql("bootstraps.next_rows"), seller_id, created_at, after, at_once)
        assert row is not None
        if row["last"] is None:
            return None
        if not row["are_stored"]:
            return after
        after = row["last"]


async def digest(pool: Pool, seller_id: int) -> str:
    """SHA-256 over the file's orders as lines `tid modified`, ordered by tid."""
    sha = hashlib.sha256()
    async with pool.acquire() as connection, connection.transaction():
        async for row in connection.cursor(sql("bootstraps.rows"), seller_id):
            sha.update(f"{row['tid']} {row['modified'].isoformat() if row['modified'] else '-'}\n".encode())
    return sha.hexdigest()


async def certify(
    pool: Pool, seller_id: int, *, at: datetime, certificate: Mapping[str, object], proven: Span
) -> None:
    """Write the certificate, claim what the export proves and make the seller live, in one transaction.

    Raises:
        ErasedError: the seller has been erased.
    """
    async with pool.acquire() as connection, connection.transaction():
        await coverage.prove(connection, seller_id, proven)
        text = orjson.dumps(certificate).decode()
        if await connection.execute(sql("bootstraps.certify"), seller_id, at, text) != "UPDATE 1":
            raise _erased(seller_id)
        await sellers.set_live(connection, seller_id)
