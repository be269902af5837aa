"""Marks on dead letters that an operator has dealt with. The letters themselves are in their topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from topsync.store.database import Pool, sql


@dataclass(frozen=True, slots=True)
class Mark:
    """What became of a letter; empty while nobody has dealt with it. Times are the database's clock."""

    retried_at: datetime | None = None
    closed_at: datetime | None = None
    closed_because: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody has dealt with the letter."""
        return self.retried_at is None and self.closed_at is None


async def marks(pool: Pool, event_ids: Sequence[str]) -> dict[str, Mark]:
    """The marks of these letters, by event id; letters without a mark are left out."""
    rows = await pool.fetch(sql("dead_letters.marks"), event_ids)
    return {row["event_id"]: Mark(row["retried_at"], row["closed_at"], row["closed_because"]) for row in rows}


async def mark_retried(pool: Pool, event_ids: Sequence[str], *, kept: timedelta) -> None:
    """Note that these were tried again; forget marks of letters that the topic has dropped. Idempotent."""
    await pool.execute(sql("dead_letters.mark_retried"), event_ids)
    await pool.execute(sql("dead_letters.forget_old"), kept)


async def mark_closed(pool: Pool, event_ids: Sequence[str], because: str, *, kept: timedelta) -> None:
    """Note that these are closed, and why; forget like `mark_retried`. Idempotent; the last reason counts."""
    await pool.execute(sql("dead_letters.mark_closed"), event_ids, because)
    await pool.execute(sql("dead_letters.forget_old"), kept)
