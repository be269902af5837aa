"""How many calls a process makes, how many fail, and what was odd: counted at once, written later."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import cache

from schemas import platform_time
from topsync.base import identity, metrics
from topsync.base.clock import ServerClock
from topsync.base.outages import Outage
from topsync.budget.circuit import Tally
from topsync.model.anomaly import AnomalyKind, Sightings
from topsync.platforms.platform_port import CallRecord
from topsync.store import anomalies, api_calls, circuits
from topsync.store.api_calls import Call
from topsync.store.database import OUTAGE_ERRORS, Pool

WRITTEN_EVERY_SECONDS = 1.0


_calls = cache(metrics.API_CALLS.labels)
_seconds = cache(metrics.API_SECONDS.labels)
"""To look a series up takes longer than to count a call. There are as many as labels allow."""


class CallCounts:
    """Counts calls, and adds them to the database every second: a crash takes those of a second with it."""

    def __init__(self, pool: Pool, clock: ServerClock, sightings: Sightings) -> None:
        self._pool = pool
        self._clock = clock
        self._counts: Counter[Call] = Counter()
        self._tally = Tally()
        self._sightings = sightings

    def note(self, record: CallRecord) -> None:
        """Count an attempt. Does not block."""
        priority, outcome = record.priority.label, record.outcome
        _calls(record.api, priority, outcome).inc()
        _seconds(record.api).observe(record.seconds)
        self._tally.note(record.api, record.seller_id, record.verdict)
        if record.unknown_code is not None:
            name = f"{record.api} {record.unknown_code}"
            self._sightings.note(AnomalyKind.UNKNOWN_CODE, name, seller_id=record.seller_id)
        if self._clock.is_set:
            self._counts[Call(platform_time.day_of(self._clock.now()), record.api, priority, outcome)] += 1

    async def write_for_ever(self) -> None:
        """Write the counts down every second, also through outages of the database, until cancelled."""
        outage, pause_seconds = Outage("cannot write the call counts down"), WRITTEN_EVERY_SECONDS
        while True:
            await asyncio.sleep(pause_seconds)
            try:
                await self.write()
            except OUTAGE_ERRORS as error:
                pause_seconds = outage.failed(error)
            else:
                outage.over()
                pause_seconds = WRITTEN_EVERY_SECONDS

    async def write(self) -> None:
        """Add what was counted since the last time to the database.

        Evidence for circuits is of the moment at which it is written: what an outage holds up is dropped.

        Raises:
            OUTAGE_ERRORS: it was not added. Counts for people are kept for the next time.
        """
        evidence = self._tally.take()
        counts, self._counts = self._counts, Counter()
        try:
            if counts:
                await api_calls.add(self._pool, counts, service=identity.service())
        except OUTAGE_ERRORS:
            self._counts += counts
            raise
        if evidence:
            await circuits.testify(self._pool, evidence)
        if self._sightings:
            await self._write_sightings()

    async def _write_sightings(self) -> None:
        seen = self._sightings.take()
        try:
            await anomalies.sight(self._pool, seen)
        except OUTAGE_ERRORS:
            self._sightings.put_back(seen)
            raise
        for (kind, _), each in seen.seen.items():
            metrics.ANOMALY_SIGHTINGS.labels(kind.value).inc(each.count)
