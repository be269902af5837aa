"""The coverage ledger: per seller, the spans of platform time that are proven complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from topsync.model.span import Span
from topsync.store.database import Connection, Pool, sql


@dataclass(frozen=True, slots=True)
class PulledWindow:
    """The result of pulling a window: announced = listed, and what became of it."""

    seller_id: int
    span: Span
    source: str
    reason: str | None
    pulled_at: datetime
    listed: int
    hinted: int
    proven_to: datetime | None
    """Exclusive; None when nothing of the window was proven."""
    lists: Literal["orders", "refunds"] = "orders"
    """What was listed. The ledger is made from the windows of orders only; see `record` for refunds."""


async def record(pool: Pool, windows: Sequence[PulledWindow], *, with_refunds: bool = False) -> None:
    """Write pulled windows and, in the same transaction, what they prove (I4, I6).

    `with_refunds` says that everything that the ledger now claims about the seller is also true of its
    refunds: they were listed for all of these windows, and for all that was claimed without them before
    (`claimed_without_refunds`).
    """
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
                window.lists,
            )
            if window.proven_to is not None and window.lists == "orders":
                await prove(connection, window.seller_id, Span(window.span.start, window.proven_to))
                await connection.execute(sql("coverage.set_with_refunds"), window.seller_id, with_refunds)


async def prove(connection: Connection, seller_id: int, span: Span) -> None:
    """Add a half-open span to what is proven. Idempotent."""
    await connection.execute(sql("coverage.prove"), seller_id, span.start, span.end)


async def claimed_without_refunds(pool: Pool, seller_id: int) -> datetime | None:
    """Since when the ledger's claims about a seller leave its refunds out; None when they do not."""
    since: datetime | None = await pool.fetchval(sql("coverage.claimed_without_refunds"), seller_id)
    return since


async def sellers_with_refunds(pool: Pool) -> set[int]:
    """The sellers whose claims include their refunds."""
    return {row["seller_id"] for row in await pool.fetch(sql("coverage.with_refunds"))}


async def proven(pool: Pool) -> dict[int, list[Span]]:
    """Per seller, the proven spans in order; they neither overlap nor touch."""
    return {
        row["seller_id"]: [Span(*ends) for ends in zip(row["starts"] or (), row["ends"] or (), strict=True)]
        for row in await pool.fetch(sql("coverage.proven"))
    }
