"""A connection of push, as the service keeps it: shown in logs and metrics, and written down.

From what is written, the reconciler opens gaps: when the connection last provably worked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from uuid import UUID, uuid4

from topsync.base import metrics, telemetry
from topsync.platforms.message_port import Messages, PushEnding, PushStatus
from topsync.store import push_connections
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.push_connections import PushConnection

log = telemetry.get_logger(__name__)

MAX_UNWRITTEN_ENDS = 1000
"""Ends kept while the database is away; beyond it the oldest is forgotten. Its row has gone stale by then,
which opens the same gap."""


class WatchedConnection:
    """A connection that comes back for ever, and its rows. In the process, `number` is its name."""

    def __init__(self, number: int, messages: Messages, pool: Pool) -> None:
        self.number = number
        self.connection = messages.connection(self._state_changed)
        self._source = messages.source
        self._pool = pool
        self._status: PushStatus | None = None
        self._current: UUID | None = None
        self._ended: deque[PushConnection] = deque(maxlen=MAX_UNWRITTEN_ENDS)
        self._due = asyncio.Event()
        self._writes = True

    async def keep(self, interval_seconds: float) -> None:
        """Write the connection's state down at each change and at each interval."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_seconds):
                    await self._due.wait()
            self._due.clear()
            await self.write_once()

    async def write_once(self) -> None:
        """Write what is known now; what cannot be written waits for the next time, and never stops push."""
        status = self.connection.status
        metrics.PUSH_UNCONFIRMED_BYTES.labels(self.number).set(status.unconfirmed_bytes)
        try:
            while self._ended:
                await push_connections.write(self._pool, self._ended[0])
                self._ended.popleft()
            if self._current is not None:
                await push_connections.write(self._pool, self._row(status, self._current))
        except OUTAGE_ERRORS as error:
            # At each interval, or push would seem silent once the database is back. Logged once.
            if self._writes:
                log.warning("cannot write the connection's state down; trying again", error=repr(error))
            self._writes = False
            metrics.DATABASE_AWAY.set(1)
        else:
            metrics.DATABASE_AWAY.set(0)
            if not self._writes:
                log.warning("the connection's state is written down again", connection=self.number)
            self._writes = True

    def _state_changed(self, status: PushStatus) -> None:
        if self._status is not None:
            metrics.PUSH_CONNECTIONS.labels(self._status.state).dec()
        metrics.PUSH_CONNECTIONS.labels(status.state).inc()
        before, self._status = self._status, status
        if status.ending is not None:
            self._end(status, status.ending, before)
        else:
            log.info("channel", connection=self.number, state=status.state)
        if status.is_up:
            self._current = uuid4()
        self._due.set()

    def _end(self, status: PushStatus, ending: PushEnding, before: PushStatus | None) -> None:
        if before is None or before.ending is None:
            metrics.PUSH_ENDINGS.labels(ending.cause).inc()
        (log.info if ending.is_expected else log.warning)(
            "channel",
            connection=self.number,
            state=status.state,
            before=before.state if before else None,
            cause=ending.cause,
            code=ending.code,
            phrase=ending.phrase,
        )
        if self._current is not None:
            self._ended.append(self._row(status, self._current))
            self._current = None

    def _row(self, status: PushStatus, id: UUID) -> PushConnection:  # noqa: A002
        assert status.connected_at is not None
        assert status.last_proof_at is not None
        ending = status.ending
        return PushConnection(
            id=id,
            channel_group=self._source,
            connected_at=status.connected_at,
            last_proof_at=status.last_proof_at,
            lost_at=None if ending is None else status.at,
            reason=None if ending is None else status.reason,
            cause=None if ending is None else ending.cause,
        )
