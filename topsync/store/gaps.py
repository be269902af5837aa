"""Gaps: spans in which push cannot be trusted, per seller, until pulls have proven them complete."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Final

from topsync.model.gap import Gap
from topsync.model.scheme import Scheme
from topsync.store.database import Connection, Pool, sql
from topsync.store.push_connections import PushConnection

PUSHING: Final = [scheme.value for scheme in Scheme if scheme.pushes]


async def open_for_all(
    connection: Connection, lost: PushConnection, installation: Scheme, *, now: datetime
) -> int:
    """Open a gap for every seller with messages, from the connection's last proof; returns how many.

    `installation` is the scheme of sellers without one of their own. Idempotent.
    """
    tag = await connection.execute(
        sql("gaps.open_for_all"), lost.last_proof_at, lost.reason, lost.id, now, installation, PUSHING
    )
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


async def end_without_messages(connection: Connection, installation: Scheme, *, at: datetime) -> None:
    """End, at a moment of platform time, the gaps of sellers that have no messages by now. Idempotent.

    `installation` is the scheme of sellers without one of their own.
    """
    await connection.execute(sql("gaps.end_without_messages"), at, installation, PUSHING)


async def open_gaps(pool: Pool) -> list[Gap]:
    """All gaps that are not proven closed, oldest first."""
    return [Gap(*row) for row in await pool.fetch(sql("gaps.open"))]


async def open_gaps_of(connection: Pool | Connection, seller_ids: Collection[int]) -> dict[int, list[Gap]]:
    """The gaps of these sellers that are not proven closed, oldest first; of sellers that have any."""
    found: dict[int, list[Gap]] = {}
    for row in await connection.fetch(sql("gaps.open_of"), list(seller_ids)):
        found.setdefault(row["seller_id"], []).append(Gap(*row))
    return found


async def mark_pulled(connection: Pool | Connection, pulled: Iterable[Gap], at: datetime) -> None:
    """Note when gaps were last pulled."""
    await connection.execute(sql("gaps.pulled"), [gap.id for gap in pulled], at)


async def close(connection: Pool | Connection, proven: Iterable[Gap], at: datetime) -> None:
    """Note that gaps are proven complete. Idempotent."""
    await connection.execute(sql("gaps.close"), [gap.id for gap in proven], at)
