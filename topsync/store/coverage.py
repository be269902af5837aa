"""The coverage ledger: per seller, the spans of platform time that are proven complete (design 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from topsync.store.database import Connection, Pool, sql


@dataclass(frozen=True, slots=True)
class Span:
    """A span of platform time, in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class PulledWindow:
    """What pulling one window brought: announced = listed, and what became of it."""

    seller_id: int
    span: Span
    source: str
    reason: str | None
    pulled_at: datetime
    listed: int
    hinted: int
    proven_to: datetime | None
    """Exclusive; none where nothing of the window was proven."""


async def record(pool: Pool, windows: Sequence[PulledWindow]) -> None:
    """Write pulled windows down and, in the same transaction, what they prove (I4, I6)."""
    async with pool.acquire() as connection, connection.transaction():
        for window in windows:
            await connection.execute(
                sql("coverage.record_window"),
                window.seller_id,
                window.span.start,
                window.span.end,
                window.source,
                window.reason,
                window.pulled_at,
                window.listed,
                window.hinted,
                window.proven_to,
            )
            if window.proven_to is not None:
                await prove(connection, window.seller_id, Span(window.span.start, window.proven_to))


async def prove(connection: Connection, seller_id: int, span: Span) -> None:
    """Add a half-open span to what is proven. Idempotent."""
    await connection.execute(sql("coverage.prove"), seller_id, span.start, span.end)


async def proven(pool: Pool) -> dict[int, list[Span]]:
    """Per seller, the proven spans in order; they neither overlap nor touch."""
    return {
        row["seller_id"]: [Span(*ends) for ends in zip(row["starts"] or (), row["ends"] or (), strict=True)]
        for row in await pool.fetch(sql("coverage.proven"))
    }
