"""One connection to the channel as the push service keeps it: told of in logs and metrics, and written down.

What is written is what the reconciler opens gaps by: when the connection last provably worked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from uuid import UUID, uuid4

from topsync.base import metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.platforms.taobao.channel.config import ConnectionConfig
from topsync.platforms.taobao.channel.connection import ChannelConnection, TokenSource
from topsync.platforms.taobao.channel.endings import Cause
from topsync.platforms.taobao.channel.session import ChannelState
from topsync.platforms.taobao.channel.status import ConnectionStatus
from topsync.store import push_connections
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.push_connections import PushConnection

log = telemetry.get_logger(__name__)

MAX_UNWRITTEN_ENDS = 1000
"""Ends kept while the database is away; beyond it the oldest is forgotten. Its row has gone stale by then,
which opens the same gap."""

EXPECTED = (Cause.LEFT, Cause.STOPPED)


class WatchedConnection:
    """One connection that comes back for ever, and its rows. `number` tells it from the process's others."""

    def __init__(
        self,
        number: int,
        config: ConnectionConfig,
        clock: ServerClock,
        pool: Pool,
        token_source: TokenSource | None = None,
    ) -> None:
        self.number = number
        self.connection = ChannelConnection(config, clock, self._state_changed, token_source=token_source)
        self._group = config.group
        self._pool = pool
        self._state: ChannelState | None = None
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
            # At each interval, or push would be taken for silent once the database is back. Said once.
            if self._writes:
                log.warning("cannot write the connection's state down; trying again", error=repr(error))
            self._writes = False
        else:
            if not self._writes:
                log.warning("the connection's state is written down again", connection=self.number)
            self._writes = True

    def _state_changed(self, status: ConnectionStatus) -> None:
        if self._state is not None:
            metrics.PUSH_CONNECTIONS.labels(self._state.value).dec()
        metrics.PUSH_CONNECTIONS.labels(status.state.value).inc()
        before, self._state = self._state, status.state
        if status.state in (ChannelState.DISCONNECTED, ChannelState.CLOSED):
            self._end(status, before)
        else:
            log.info("channel", connection=self.number, state=status.state.value)
        if status.state is ChannelState.CONNECTED:
            self._current = uuid4()
        self._due.set()

    def _end(self, status: ConnectionStatus, before: ChannelState | None) -> None:
        ending = status.ending
        assert ending is not None, "whatever ends has ended somehow"
        if before is not ChannelState.DISCONNECTED:
            metrics.PUSH_ENDINGS.labels(ending.cause).inc()
        (log.info if ending.cause in EXPECTED else log.warning)(
            "channel",
            connection=self.number,
            state=status.state.value,
            before=before.value if before else None,
            cause=ending.cause.value,
            code=ending.code,
            phrase=ending.phrase,
        )
        if self._current is not None:
            self._ended.append(self._row(status, self._current, lost=True))
            self._current = None

    def _row(self, status: ConnectionStatus, id: UUID, *, lost: bool = False) -> PushConnection:  # noqa: A002
        assert status.connected_at is not None
        assert status.last_proof_at is not None
        return PushConnection(
            id=id,
            channel_group=self._group,
            connected_at=status.connected_at,
            last_proof_at=status.last_proof_at,
            lost_at=status.at if lost else None,
            reason=status.reason if lost else None,
            cause=status.ending.cause.value if lost and status.ending else None,
        )
