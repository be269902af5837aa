"""Gaps: spans in which push cannot be trusted, per seller, until pulls have proven them complete."""

from __future__ import annotations

from datetime import datetime

from topsync.model.gap import Gap
from topsync.store.database import Connection, Pool, sql
from topsync.store.push_connections import PushConnection


async def open_for_all(connection: Connection, lost: PushConnection, *, now: datetime) -> int:
    """Open a gap for every seller from the connection's last proof; returns how many. Idempotent."""
    tag = await connection.execute(sql("gaps.open_for_all"), lost.last_proof_at, lost.reason, lost.id, now)
    return int(tag.rsplit(" ", 1)[1])


async def open_for_one(
    connection: Connection, seller_id: int, *, began: datetime, ended: datetime, cause: str
) -> None:
    """Open a gap that has already ended, for a single seller that push did not cover. Not idempotent."""
    await connection.execute(sql("gaps.open_for_one"), seller_id, began, ended, cause)


async def end_by(pool: Pool | Connection, up: PushConnection) -> None:
    """End every gap without an end: at the first proof, after the loss, that this connection worked.

    While the connection's last proof is older than a loss, that gap stays without an end.
    """
    await pool.execute(sql("gaps.end_by"), up.connected_at, up.last_proof_at)


async def open_gaps(pool: Pool) -> list[Gap]:
    """All gaps that are not proven closed, oldest first."""
    return [Gap(*row) for row in await pool.fetch(sql("gaps.open"))]


async def mark_pulled(pool: Pool, gap: Gap, at: datetime) -> None:
    """Note when a gap's windows were last pulled."""
    await pool.execute(sql("gaps.pulled"), gap.id, at)


async def close(pool: Pool, gap: Gap, at: datetime) -> None:
    """Note that a gap is proven complete. Idempotent."""
    await pool.execute(sql("gaps.close"), gap.id, at)
