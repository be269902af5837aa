"""Deletes rows that are too old, a piece at a time; what goes of windows is summed up by day."""

from __future__ import annotations

from datetime import datetime

from topsync.store.database import Pool, sql
from topsync.store.tables import GOING


async def now(pool: Pool) -> datetime:
    """The database's clock."""
    moment: datetime = await pool.fetchval(sql("retention.now"))
    return moment


async def delete(pool: Pool, table: str, *, before: datetime, limit: int) -> int:
    """Delete at most `limit` of the oldest rows of a table of `GOING` that are older than `before`.

    Returns how many, fewer than `limit` when no more are left that nobody else works on. A single
    transaction, that waits for no lock; it may be repeated, and run by several processes at once.
    """
    assert table in GOING, f"rows of {table} stay"
    deleted: int = await pool.fetchval(sql(f"retention.{table}"), before, limit)
    return deleted


async def oldest(pool: Pool, table: str) -> datetime | None:
    """From when the oldest row of a table of `GOING` is; None where no row has an age yet."""
    moment: datetime | None = await pool.fetchval(sql(f"retention.oldest_{table}"))
    return moment
