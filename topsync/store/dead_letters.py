"""Marks of dead letters that an operator has tried again. The letters themselves are in their topic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from topsync.store.database import Pool, sql


async def retried(pool: Pool, event_ids: Sequence[str]) -> dict[str, datetime]:
    """Which of these letters were tried again, and when last (database clock)."""
    rows = await pool.fetch(sql("dead_letters.retried"), event_ids)
    return {row["event_id"]: row["retried_at"] for row in rows}


async def mark_retried(pool: Pool, event_ids: Sequence[str], *, kept: timedelta) -> None:
    """Note that these were tried again; forget marks of letters older than the topic keeps. Idempotent."""
    await pool.execute(sql("dead_letters.mark_retried"), event_ids)
    await pool.execute(sql("dead_letters.forget_old"), kept)
