"""Keeps the tables from growing for ever: deletes what is too old, in small pieces with pauses between.

What is deleted, and what stays, is said in `topsync.store.tables`. Each piece is a transaction of its own, so
a stop in the middle loses nothing, and two processes that do this at the same time only share the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from topsync.base import metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.model.retention import Period
from topsync.store import retention
from topsync.store.database import Pool
from topsync.store.tables import GOING

log = telemetry.get_logger(__name__)

PIECE_ROWS: Final = 2000
"""Deleted in one transaction, which takes less than a tenth of a second."""

LEAST_PAUSE_SECONDS: Final = 0.02
"""After each piece as long as the piece took, but at least so long: half of the time at most is spent
deleting, and a database that is slow gets longer pauses."""

LONGEST_PAUSE_SECONDS: Final = 10.0

ROUND_SECONDS: Final = 120.0
"""A round that takes longer ends, and counts as one that did not keep up; the next one goes on."""


@dataclass(slots=True)
class Retention:
    """What deletes."""

    pool: Pool
    clock: ServerClock
    kept: Mapping[Period, timedelta]
    interval_seconds: float
    """Between the beginnings of two rounds."""
    piece_rows: int = PIECE_ROWS
    round_seconds: float = ROUND_SECONDS
    _not_before: float = float("-inf")
    """When the next round is due, by the loop's time."""

    async def round(self) -> None:
        """Delete what is too old, unless the last round was just now. A crash at any point is harmless.

        Raises:
            OSError, asyncpg.PostgresError: the database is away; what was deleted before stays deleted.
        """
        begun = asyncio.get_running_loop().time()
        if begun < self._not_before:
            return
        left = await self._delete(until=begun + self.round_seconds)
        if left:
            metrics.RETENTION_BEHIND.inc()
            log.warning("old rows are left: the next round goes on with them", tables=sorted(left))
        else:
            self._not_before = begun + self.interval_seconds
        for table in GOING:
            if (oldest := await retention.oldest(self.pool, table)) is not None:
                metrics.OLDEST_ROW.labels(table).set(oldest.timestamp())

    def forget(self) -> None:
        """See `reconciler.duties.Forgetting`."""
        metrics.OLDEST_ROW.clear()

    async def _delete(self, *, until: float) -> set[str]:
        """Delete in turn a piece of each table that has more, so that none waits for a larger one.

        Each gets one piece at least, however late it is. Returns the tables that still have old rows at the
        end of the time.
        """
        loop = asyncio.get_running_loop()
        now = await self._now()
        left = dict.fromkeys(GOING)
        while left:
            for table in list(left):
                begun = loop.time()
                deleted = await retention.delete(
                    self.pool, table, before=now - self.kept[GOING[table].period], limit=self.piece_rows
                )
                metrics.ROWS_DELETED.labels(table).inc(deleted)
                if deleted < self.piece_rows:
                    del left[table]
                else:
                    await asyncio.sleep(pause_after(loop.time() - begun))
            if loop.time() >= until:
                break
        return set(left)

    async def _now(self) -> datetime:
        """The earlier of the two clocks: what is deleted does not come back when a clock does."""
        return min(self.clock.now(), await retention.now(self.pool))


def pause_after(seconds: float) -> float:
    """How long to pause after a piece that took so long."""
    return min(max(seconds, LEAST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
