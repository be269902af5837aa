"""Authorisations that sellers withdraw: a message says so before a call is refused."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from topsync.base import telemetry
from topsync.base.outages import Outage
from topsync.platforms.message_port import MessageReading, Withdrawal
from topsync.sellers import session_rules
from topsync.store import sellers
from topsync.store.database import OUTAGE_ERRORS, Pool

log = telemetry.get_logger(__name__)

MAX_UNWRITTEN = 1000
"""Messages kept while the database is away; for other sellers, the next call shows the same."""


@dataclass(slots=True)
class Cancellations:
    """Marks the sellers of such messages as expired. After a crash they are only marked later."""

    pool: Pool
    _unwritten: deque[tuple[int, datetime]] = field(default_factory=lambda: deque(maxlen=MAX_UNWRITTEN))
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _outage: Outage = field(default_factory=lambda: Outage("cannot mark a seller as expired; trying again"))

    def note(self, readings: Iterable[MessageReading]) -> None:
        """Pick out the messages that withdraw an authorisation. Does not wait."""
        for reading in readings:
            if isinstance(reading, Withdrawal):
                self._unwritten.append((reading.seller_id, reading.at))
                self._due.set()

    async def keep(self) -> None:
        """Write what was noted, as soon as it is noted; an unreachable database never stops push."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._write()
                self._outage.over()
            except OUTAGE_ERRORS as error:
                await asyncio.sleep(self._outage.failed(error))
                self._due.set()

    async def _write(self) -> None:
        while self._unwritten:
            oldest = seller_id, at = self._unwritten[0]
            if await sellers.cancel(self.pool, seller_id, at, session_rules.CANCELLED):
                log.warning("seller cancelled the authorisation", seller_id=seller_id)
            if self._unwritten[0] is oldest:  # else a newer message has replaced it meanwhile
                self._unwritten.popleft()
