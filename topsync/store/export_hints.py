"""Hints that an export of a seller has ended: the push service tells whoever waits for it in another process.

Only hints: PostgreSQL keeps none for a process that does not listen at the moment, and nobody is told of a
hint that was lost. Who waits also looks by itself, every now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from topsync.base.outages import Outage
from topsync.store.database import OUTAGE_ERRORS, Connection, Pool, sql

ENDED: Final = "export_ended"
"""The channel of PostgreSQL; a payload is a seller's id."""


async def notify(pool: Pool, seller_id: int) -> None:
    """Tell that an export of a seller has ended. Idempotent.

    Raises:
        OUTAGE_ERRORS: the database is away; nobody is told.
    """
    await pool.execute(sql("export_hints.notify"), ENDED, str(seller_id))


@dataclass(slots=True)
class ExportHints:
    """What is heard of the ends of exports."""

    pool: Pool
    _waiting: dict[int, list[asyncio.Event]] = field(default_factory=dict)

    @contextmanager
    def of(self, seller_id: int) -> Iterator[asyncio.Event]:
        """An event that is set whenever an export of the seller has ended; whoever waits for it clears it.

        Each caller has an event of its own, and misses nothing while it looks at its export.
        """
        event = asyncio.Event()
        self._waiting.setdefault(seller_id, []).append(event)
        try:
            yield event
        finally:
            waiting = self._waiting[seller_id]
            waiting.remove(event)
            if not waiting:
                del self._waiting[seller_id]

    async def keep(self) -> None:
        """Listen until cancelled, on a connection of the pool; through every outage."""
        outage = Outage("cannot listen for the ends of exports; trying again")
        while True:
            try:
                async with self.pool.acquire() as connection:
                    await self._listen(connection)
                outage.over()
            except OUTAGE_ERRORS as error:
                await asyncio.sleep(outage.failed(error))

    async def _listen(self, connection: Connection) -> None:
        """Until the connection ends."""
        ended = asyncio.Event()

        def end(_: object) -> None:
            ended.set()

        def hear(_: object, __: object, ___: object, payload: object) -> None:
            self._heard(str(payload))

        connection.add_termination_listener(end)
        await connection.add_listener(ENDED, hear)
        # What was told before is unheard: all look at their exports once.
        for seller_id in self._waiting:
            self._heard(str(seller_id))
        try:
            await ended.wait()
        finally:
            if not connection.is_closed():
                await connection.remove_listener(ENDED, hear)
                connection.remove_termination_listener(end)

    def _heard(self, payload: str) -> None:
        if payload.isdecimal():
            for event in self._waiting.get(int(payload), ()):
                event.set()


@asynccontextmanager
async def listening(pool: Pool) -> AsyncIterator[ExportHints]:
    """Hear of the ends of exports, on a connection of the pool; while the database is away, of none."""
    hints = ExportHints(pool)
    keeping = asyncio.create_task(hints.keep())
    try:
        yield hints
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


async def pause(ended: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until an export has ended; returns whether that was heard."""
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return False
    ended.clear()
    return True
