"""Connections of the message channel, as the push service records them for the reconciler."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from topsync.store.database import Connection, Pool, sql


@dataclass(frozen=True, slots=True)
class PushConnection:
    """A connection, from its acknowledgement by the platform to its loss. Times are platform time."""

    id: UUID
    channel_group: str
    connected_at: datetime
    last_proof_at: datetime
    """The last moment at which it provably worked. A gap begins here, not when the loss was noticed."""
    lost_at: datetime | None = None
    reason: str | None = None
    cause: str | None = None
    """The kind of loss (`Cause` in the channel's `endings`); `reason` has the words."""


async def write(pool: Pool, connection: PushConnection) -> None:
    """Write a connection's present state. Idempotent.

    The last proof never moves back while the connection is up. Its loss may move it back: if a channel was
    silent, its last acknowledgements proved nothing.
    """
    await pool.execute(
        sql("push_connections.write"),
        connection.id,
        connection.channel_group,
        connection.connected_at,
        connection.last_proof_at,
        connection.lost_at,
        connection.reason,
        connection.cause,
    )


async def lost(connection: Connection, *, silent_for: timedelta) -> list[PushConnection]:
    """Connections that are lost, or no longer recorded, and that have not opened gaps."""
    rows = await connection.fetch(sql("push_connections.lost"), silent_for)
    return [
        PushConnection(
            row["id"], row["channel_group"], row["connected_at"], row["last_proof_at"], None, row["reason"]
        )
        for row in rows
    ]


async def close_stale(connection: Connection, id: UUID) -> None:  # noqa: A002 -- the column's name
    """Note that a lost connection has opened its gaps."""
    await connection.execute(sql("push_connections.close_stale"), id)


async def up(pool: Pool | Connection, *, silent_for: timedelta) -> list[PushConnection]:
    """Connections that are up and were recorded recently, oldest first."""
    rows = await pool.fetch(sql("push_connections.up"), silent_for)
    return [PushConnection(*row) for row in rows]


async def last(pool: Pool) -> PushConnection | None:
    """The connection that worked last, up or not; None when there was never a connection."""
    row = await pool.fetchrow(sql("push_connections.last"))
    return None if row is None else PushConnection(*row)
