"""Gateway calls by the platform's day, priority and outcome: what became of them.

For people, and written down now and then. The daily quota is kept by `call_budget`, which counts each call
before it is made, so that no crash can hide one.
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import NamedTuple

from topsync.store.database import Pool, sql


class Call(NamedTuple):
    """What calls are counted by."""

    day: date
    api: str
    priority: str
    outcome: str


async def add(pool: Pool, counts: Counter[Call]) -> None:
    """Add counts. Not idempotent: a count that may have been written is lost rather than doubled."""
    rows = sorted(counts.items())
    await pool.execute(
        sql("api_calls.add"),
        [call.day for call, _ in rows],
        [call.api for call, _ in rows],
        [call.priority for call, _ in rows],
        [call.outcome for call, _ in rows],
        [calls for _, calls in rows],
    )


async def by_api(pool: Pool) -> dict[str, int]:
    """Calls of the platform's latest day on which there were any, by API, most first."""
    return {row["api"]: row["calls"] for row in await pool.fetch(sql("api_calls.by_api"))}
