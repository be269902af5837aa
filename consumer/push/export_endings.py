"""Exports that have ended: a message says so before a bulk start looks again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from topsync.base import telemetry
from topsync.platforms.message_port import ExportEnded, MessageReading
from topsync.store import export_hints
from topsync.store.database import OUTAGE_ERRORS, Pool

log = telemetry.get_logger(__name__)

MAX_UNTOLD = 1000
"""Sellers to tell of; further ones are left out, and their bulk starts look by themselves."""


@dataclass(slots=True)
class ExportEndings:
    """Tells the bulk starts of such messages. What cannot be told at once is dropped: they are only hints."""

    pool: Pool
    _untold: set[int] = field(default_factory=set)
    _due: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, readings: Iterable[MessageReading]) -> None:
        """Pick out the messages that say that an export has ended. Does not wait."""
        for reading in readings:
            if isinstance(reading, ExportEnded) and len(self._untold) < MAX_UNTOLD:
                self._untold.add(reading.seller_id)
                self._due.set()

    async def keep(self) -> None:
        """Tell what was noted, as soon as it is noted; an unreachable database never stops push."""
        while True:
            await self._due.wait()
            self._due.clear()
            while self._untold:
                seller_id = self._untold.pop()
                try:
                    await export_hints.notify(self.pool, seller_id)
                except OUTAGE_ERRORS as error:
                    log.warning(
                        "cannot tell that an export has ended", seller_id=seller_id, error=repr(error)
                    )
