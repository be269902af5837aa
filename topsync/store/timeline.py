"""What happened in a seller's time, for people who look: replays and gaps, open and closed. Bounded reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from topsync.model.gap import Gap
from topsync.model.span import Span
from topsync.store.database import Pool, sql

MOST_WINDOWS: Final = 20_000
"""Replayed windows of a seller that are read: a replay of ninety days has some four thousand."""

MOST_GAPS: Final = 2_000

NEWEST_GAPS: Final = 50_000
"""Among so many of the newest gaps, those are looked for that were closed lately."""


@dataclass(frozen=True, slots=True)
class PastGap:
    """A gap, open or closed. Times are platform time."""

    gap: Gap
    closed_at: datetime | None
    """When all of it was proven; None while it is open."""


def _read(row: asyncpg.Record) -> PastGap:
    return PastGap(
        Gap(
            row["id"],
            row["seller_id"],
            row["began"],
            row["ended"],
            row["cause"],
            row["opened_at"],
            row["pulled_at"],
        ),
        row["closed_at"],
    )


async def replayed(pool: Pool, seller_id: int, span: Span) -> list[Span]:
    """The windows within a span that replays have pulled."""
    rows = await pool.fetch(sql("timeline.replayed"), seller_id, span.start, span.end, MOST_WINDOWS)
    return [Span(row["start"], row["end"]) for row in rows]


async def gaps_of(pool: Pool, seller_id: int, span: Span) -> list[PastGap]:
    """The gaps of a seller that touch a span, the newest first."""
    rows = await pool.fetch(sql("timeline.gaps_of"), seller_id, span.start, span.end, MOST_GAPS)
    return [_read(row) for row in rows]


async def open_gaps(pool: Pool, *, seller_id: int | None, limit: int) -> list[PastGap]:
    """Open gaps, the oldest first."""
    return [_read(row) for row in await pool.fetch(sql("timeline.gaps_open"), seller_id, limit)]


async def count_open(pool: Pool, seller_id: int | None) -> int:
    """How many gaps are open."""
    return int(await pool.fetchval(sql("timeline.count_open"), seller_id))


async def closed_gaps(pool: Pool, *, seller_id: int | None, since: datetime, limit: int) -> list[PastGap]:
    """Gaps that were closed since a moment, the latest first."""
    rows = await pool.fetch(sql("timeline.gaps_closed"), seller_id, since, limit, NEWEST_GAPS)
    return [_read(row) for row in rows]
