"""Certificates of bulk starts, and the rows of slices that they speak of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from topsync.model.kind import Kind
from topsync.model.row_digest import NumberedRow, RowSums
from topsync.store.database import Connection, Pool, sql
from topsync.store.sellers import ErasedError

ROWS_AT_ONCE: Final = 2000
"""Rows of slices that are in memory at a time."""

READ_SECONDS: Final = 600.0
"""The first rows come when the server has sorted all of them, a second for a few hundred thousand. The usual
bound of a statement is for small ones."""


@dataclass(frozen=True, slots=True)
class KeptCertificate:
    """A certificate as it was written."""

    seller_id: int
    certified_at: datetime
    """Platform time."""
    document: str
    """The text that `schemas.certificate` reads."""


async def write(connection: Connection, seller_id: int, *, certified_at: datetime, document: str) -> None:
    """Keep a certificate, in the caller's transaction. Idempotent by seller and time.

    Raises:
        ErasedError: the seller has been erased.
    """
    if await connection.execute(sql("certificates.write"), seller_id, certified_at, document) != "INSERT 0 1":
        raise ErasedError(f"seller {seller_id} has been erased: nothing of it is certified")


async def all_of(pool: Pool, seller_id: int) -> list[KeptCertificate]:
    """All certificates of a seller, the oldest first: one for each bulk start that came to its end."""
    return [KeptCertificate(*row) for row in await pool.fetch(sql("certificates.all_of"), seller_id)]


async def last(pool: Pool, seller_id: int) -> KeptCertificate | None:
    """A seller's newest certificate; None where no bulk start came to its end."""
    row = await pool.fetchrow(sql("certificates.last"), seller_id)
    return None if row is None else KeptCertificate(*row)


async def rows(pool: Pool, seller_id: int, slices: Collection[int]) -> AsyncIterator[list[NumberedRow]]:
    """Stream the rows of these slices of a seller, by id, some at a time."""
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        cursor = await connection.cursor(sql("certificates.rows"), seller_id, list(slices))
        while found := await cursor.fetch(ROWS_AT_ONCE, timeout=READ_SECONDS):
            yield [NumberedRow(*row) for row in found]


async def sums(pool: Pool, seller_id: int, slices: Collection[int]) -> RowSums:
    """What the rows of these slices of a seller, all of one kind, add up to."""
    added = RowSums()
    async for some in rows(pool, seller_id, slices):
        added.add(some)
    added.finish()
    return added


async def erased_among(pool: Pool, seller_id: int, kind: Kind, ids: Iterable[int]) -> set[int]:
    """Of a seller's objects that are not in the table, those that are known to be erased."""
    found = await pool.fetch(sql("certificates.erased_among"), seller_id, kind.value, list(ids))
    return {row["id"] for row in found}
