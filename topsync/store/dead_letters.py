"""Marks of dead letters that an operator has dealt with. The letters themselves are in their topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from topsync.store.database import Pool, sql


@dataclass(frozen=True, slots=True)
class Mark:
    """What became of a letter; of one that nobody has dealt with, nothing. Times by the database's clock."""

    retried_at: datetime | None = None
    closed_at: datetime | None = None
    closed_because: str | None = None

    @property
    def is_open(self) -> bool:
        """Nobody has dealt with the letter."""
        return self.retried_at is None and self.closed_at is None


async def marks(pool: Pool, event_ids: Sequence[str]) -> dict[str, Mark]:
    """The marks of those of these letters that have one."""
    rows = await pool.fetch(sql("dead_letters.marks"), event_ids)
    return {row["event_id"]: Mark(row["retried_at"], row["closed_at"], row["closed_because"]) for row in rows}


async def mark_retried(pool: Pool, event_ids: Sequence[str], *, kept: timedelta) -> None:
    """Note that these were tried again; forget marks of letters older than the topic keeps. Idempotent."""
    await pool.execute(sql("dead_letters.mark_retried"), event_ids)
    await pool.execute(sql("dead_letters.forget_old"), kept)


async def mark_closed(pool: Pool, event_ids: Sequence[str], because: str, *, kept: timedelta) -> None:
    """Note that these are closed, and why; forget as `mark_retried` does. Idempotent; later words count."""
    await pool.execute(sql("dead_letters.mark_closed"), event_ids, because)
    await pool.execute(sql("dead_letters.forget_old"), kept)
