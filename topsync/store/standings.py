"""What is open of sellers, counted for people who look, up to a bound: orders that wait, dead letters."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from topsync.store.database import Pool, sql

MOST_COUNTED: Final = 200_000
"""Orders that wait, and dead letters, are counted so far: more are "at least" so many."""

MOST_BULK_STARTS: Final = 1000


class WaitingOrders(NamedTuple):
    """Orders of a seller that wait for one reason."""

    seller_id: int
    reason: str
    parked: bool
    orders: int


class OpenLetters(NamedTuple):
    """Open dead letters of a seller, for one reason."""

    seller_id: int | None
    reason: str
    letters: int
    since: datetime
    """When the oldest of them was noted, by the database's clock."""


class BulkStart(NamedTuple):
    """A bulk start that is under way."""

    seller_id: int
    started_at: datetime


async def waiting(pool: Pool, seller_id: int | None = None) -> list[WaitingOrders]:
    """Orders that wait, by seller and reason; `MOST_COUNTED` at most."""
    rows = await pool.fetch(sql("standings.waiting"), seller_id, MOST_COUNTED)
    return [WaitingOrders(row["seller_id"], row["reason"], row["parked"], row["orders"]) for row in rows]


async def letters(pool: Pool, seller_id: int | None = None) -> list[OpenLetters]:
    """Open dead letters about orders, by seller and reason; `MOST_COUNTED` at most."""
    rows = await pool.fetch(sql("standings.letters"), seller_id, MOST_COUNTED)
    return [OpenLetters(row["seller_id"], row["reason"], row["letters"], row["since"]) for row in rows]


async def bulk_starts(pool: Pool, seller_id: int | None = None) -> list[BulkStart]:
    """The bulk starts under way, the oldest first; `MOST_BULK_STARTS` at most."""
    rows = await pool.fetch(sql("standings.bulk_starts"), seller_id, MOST_BULK_STARTS)
    return [BulkStart(row["seller_id"], row["started_at"]) for row in rows]
