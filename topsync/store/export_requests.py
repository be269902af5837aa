"""Exports are asked for one after the other, in all processes together, each until its task is noted.

Where the platform says that it has a task and does not name it, the only task that nobody knows is taken for
it. That must not be the task that another seller, or another process, was given a moment ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from topsync.base.errors import OperatorError
from topsync.store import database
from topsync.store.database import Connection, Pool

_LOCK: Final = 0x65787270
"""Advisory lock of whoever asks for an export (the letters `exrp`)."""

POLL_SECONDS: Final = 0.2

WITHIN_SECONDS: Final = 600.0
"""A request takes seconds, or as long as the call budget lets it wait. Longer than this, and the process that
asks is frozen, or many others wait as well."""


class RequestsHeldUpError(OperatorError):
    """Another process has been asking for exports for too long."""


@dataclass(frozen=True, slots=True)
class ExportRequests:
    """The turns of this process."""

    pool: Pool
    within_seconds: float = WITHIN_SECONDS
    _of_this_process: asyncio.Lock = field(default_factory=asyncio.Lock)
    """So no more than one connection waits for the others."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Be the only one that asks. A process that dies gives its turn back with its connection.

        Raises:
            RequestsHeldUpError: another process gives it back to nobody.
            OUTAGE_ERRORS: the database is away.
        """
        async with self._of_this_process, self.pool.acquire() as connection:
            await self._lock(connection)
            try:
                yield
            finally:
                await database.unlock(connection, _LOCK)

    async def _lock(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.within_seconds
        while not await database.try_lock(connection, _LOCK):
            if loop.time() >= give_up_at:
                raise RequestsHeldUpError(
                    "another process has been asking the platform for exports for "
                    f"{self.within_seconds:g} s: see whether a `topsync bootstrap` hangs, then run this again"
                )
            await asyncio.sleep(POLL_SECONDS)
