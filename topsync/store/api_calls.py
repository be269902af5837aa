"""Counts of gateway calls, by platform day, API, priority and outcome; and by day, service and priority.

They are for people and are written from time to time. `call_budget` keeps the daily quota: it counts each
call before the call is made, so that a crash cannot hide any.
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Final, NamedTuple

from topsync.store.database import Pool, sql

MOST_KINDS: Final = 2000
"""Kinds of calls that are read of a day: APIs times priorities times outcomes."""


WELL: Final = "ok"
"""The outcome of a call that the platform answered as asked."""


class Call(NamedTuple):
    """The key by which calls are counted."""

    day: date
    api: str
    priority: str
    outcome: str


async def add(pool: Pool, counts: Counter[Call], *, service: str) -> None:
    """Add counts of a service. Not idempotent: repeat no failed call, because counts may be lost but not
    doubled.
    """
    rows = sorted(counts.items())
    await pool.execute(
        sql("api_calls.add"),
        service,
        WELL,
        [call.day for call, _ in rows],
        [call.api for call, _ in rows],
        [call.priority for call, _ in rows],
        [call.outcome for call, _ in rows],
        [calls for _, calls in rows],
    )


async def by_api(pool: Pool) -> dict[str, int]:
    """Calls of the platform's latest day on which there were any, by API, most first."""
    return {row["api"]: row["calls"] for row in await pool.fetch(sql("api_calls.by_api"))}


async def by_priority(pool: Pool) -> dict[str, int]:
    """Calls of the platform's present day, by priority."""
    return {row["lane"]: row["calls"] for row in await pool.fetch(sql("api_calls.by_priority"))}


class CallsOfService(NamedTuple):
    """Calls of a day by the same service, with the same priority."""

    service: str
    priority: str
    calls: int
    failed: int
    """How many of them were not answered as asked."""


async def by_service(pool: Pool) -> list[CallsOfService]:
    """Calls of the platform's present day by whose they were, most first."""
    rows = await pool.fetch(sql("api_calls.by_service"))
    return [CallsOfService(row["service"], row["lane"], row["calls"], row["failed"]) for row in rows]


class CallsOfDay(NamedTuple):
    """Calls of a day with the same API, priority and outcome."""

    api: str
    priority: str
    outcome: str
    calls: int


async def of_day(pool: Pool) -> list[CallsOfDay]:
    """Calls of the platform's present day, most first; `MOST_KINDS` kinds at most."""
    rows = await pool.fetch(sql("api_calls.of_day"), MOST_KINDS)
    return [CallsOfDay(row["api"], row["lane"], row["outcome"], row["calls"]) for row in rows]
