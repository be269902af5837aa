"""Watches the push connections: a lost connection opens gaps, and a connection that works ends them.

Two at the same time do no harm. All that a round does is a single transaction, which reads what it acts on;
a gap is opened once for each loss, and ends once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from topsync.base import telemetry
from topsync.base.clock import ServerClock
from topsync.model.scheme import Scheme
from topsync.store import database, gaps, push_connections
from topsync.store.database import Connection, Pool

log = telemetry.get_logger(__name__)

FOR_EVER = timedelta(days=36500)


@dataclass(slots=True)
class PushWatch:
    """Everything that watching needs."""

    pool: Pool
    clock: ServerClock
    scheme: Scheme
    """The installation's."""
    silent_for: timedelta
    """A push process that has written no proof for so long counts as lost."""
    poll_seconds: float
    """Between two rounds."""
    _judges_from: float | None = None
    """When it begins to judge silence, by the loop's time."""
    _looked_at: float = float("-inf")

    async def round(self) -> None:
        """Open gaps for lost connections, and end them at the reconnection. Idempotent.

        Raises:
            OSError, asyncpg.PostgresError: the database is away.
        """
        # After an outage of the database, and before this process watched, push may have been silent for a
        # good reason: judge only those that stay silent.
        now = asyncio.get_running_loop().time()
        patience = self.silent_for.total_seconds()
        if self._judges_from is None or now - self._looked_at > patience + 2 * self.poll_seconds:
            self._judges_from = now + patience
        judges = now >= self._judges_from
        try:
            async with self.pool.acquire() as connection, connection.transaction():
                await database.end_when_idle(connection)
                await self._look(connection, judges=judges)
        except BaseException:
            self._judges_from = None
            raise
        self._looked_at = now

    async def _look(self, connection: Connection, *, judges: bool) -> None:
        lost_now = await push_connections.lost(connection, silent_for=self.silent_for if judges else FOR_EVER)
        now = self.clock.now()
        for lost in lost_now:
            opened = await gaps.open_for_all(connection, lost, self.scheme, now=now)
            await push_connections.close_stale(connection, lost.id)
            log.warning(
                "push lost; gaps opened",
                sellers=opened,
                began=lost.last_proof_at.isoformat(),
                reason=lost.reason,
            )
        for up in await push_connections.up(connection, silent_for=self.silent_for):
            await gaps.end_by(connection, up)
        # A seller that no longer has messages waits for no reconnection.
        await gaps.end_without_messages(connection, self.scheme, at=now)
