"""Bulk starts: how far each seller's is. What it consists of is in `topsync.store.slices`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import asyncpg
import orjson

from topsync.model.scheme import Scheme
from topsync.model.slice import Slice
from topsync.model.span import Span
from topsync.store import certificates, coverage, sellers, slices
from topsync.store.database import Pool, sql
from topsync.store.sellers import ErasedError


class BootstrapStep(StrEnum):
    """Whether a bulk start is under way. How far it is, its slices say."""

    UNDER_WAY = "subscribed"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A seller's bulk start."""

    seller_id: int
    step: BootstrapStep
    scheme: Scheme
    """As it was when the slices were cut; where the platform refuses exports, a later setting counts."""
    first_day: date
    day_zero: date
    """The platform's day on which the first export was requested: the slices hold orders created before that
    day."""
    started_at: datetime
    planned_at: datetime | None
    """Since when its slices are cut; None: not yet."""
    listed_because: str | None
    """Why the past comes from lists, although an export was asked for; None where it does not."""
    summary: Mapping[str, object] | None
    """What subscribers were sent of its certificate; None before its end."""


def _read(row: asyncpg.Record) -> Bootstrap:
    return Bootstrap(
        row["seller_id"],
        BootstrapStep(row["state"]),
        Scheme(row["scheme"] or Scheme.THREE),
        row["first_day"],
        row["day_zero"],
        row["started_at"],
        row["planned_at"],
        row["listed_because"],
        orjson.loads(row["certificate"]) if row["certificate"] else None,
    )


async def begin(
    pool: Pool, seller_id: int, *, scheme: Scheme, first_day: date, day_zero: date, at: datetime
) -> Bootstrap:
    """Begin a bulk start, or find the seller's bulk start that is under way.

    Raises:
        ErasedError: the seller is erased.
    """
    await pool.execute(sql("bootstraps.begin"), seller_id, scheme.value, first_day, day_zero, at)
    return await under_way(pool, seller_id)


async def get(pool: Pool, seller_id: int) -> Bootstrap | None:
    """A seller's bulk start; None if it never began."""
    row = await pool.fetchrow(sql("bootstraps.get"), seller_id)
    return _read(row) if row else None


async def first_days(pool: Pool, seller_id: int | None = None) -> dict[int, date]:
    """The first day that bulk starts brought: of all sellers, or of one. It is absent where none began."""
    rows = await pool.fetch(sql("bootstraps.first_days"), seller_id)
    return {row["seller_id"]: row["first_day"] for row in rows}


async def under_way(pool: Pool, seller_id: int) -> Bootstrap:
    """A seller's bulk start, which must have begun.

    Raises:
        ErasedError: the seller has been erased since, and its bulk start with it.
    """
    found = await get(pool, seller_id)
    if found is None:
        raise ErasedError(f"seller {seller_id} has been erased: there is nothing to start")
    return found


async def plan(
    pool: Pool, seller_id: int, planned: Sequence[Slice], *, at: datetime, listed_because: str | None
) -> None:
    """Write the slices of a bulk start, in place of those of a former bulk start.

    Raises:
        ErasedError: the seller has been erased.
    """
    await slices.remove_rows(pool, seller_id)
    async with pool.acquire() as connection, connection.transaction():
        tag = await connection.execute(sql("bootstraps.planned"), seller_id, at, listed_because)
        if tag != "UPDATE 1":
            raise ErasedError(f"seller {seller_id} has been erased: there is nothing to start")
        await slices.replace_all(connection, seller_id, planned)


async def set_scheme(pool: Pool, seller_id: int, scheme: Scheme) -> None:
    """Go on by another scheme than the bulk start began with."""
    await pool.execute(sql("bootstraps.set_scheme"), seller_id, scheme.value)


async def list_instead(pool: Pool, seller_id: int, listed: Sequence[Slice], *, because: str | None) -> None:
    """Replace what an export should have brought, and has not, by slices that are listed: all of one kind.

    `because` is why; None where they are no orders.

    Raises:
        ErasedError: the seller has been erased.
    """
    async with pool.acquire() as connection, connection.transaction():
        tag = await connection.execute(sql("bootstraps.list_because"), seller_id, because)
        if tag != "UPDATE 1":
            raise ErasedError(f"seller {seller_id} has been erased: there is nothing to start")
        await slices.replace_unloaded(connection, seller_id, listed)


async def move_first_day(pool: Pool, seller_id: int, first_day: date) -> None:
    """Claim nothing of the days before this: the platform no longer gives them."""
    await pool.execute(sql("bootstraps.move_first_day"), seller_id, first_day)


async def certify(
    pool: Pool,
    seller_id: int,
    *,
    at: datetime,
    summary: Mapping[str, object],
    document: str,
    proven: Span,
) -> None:
    """Write the certificate, claim what the slices prove and make the seller live, in one transaction.

    `summary` is what subscribers are sent of it (`schemas.notification`).

    Raises:
        ErasedError: the seller has been erased.
    """
    async with pool.acquire() as connection, connection.transaction():
        # First, while nothing else is locked: a pull that ends now shares the lock of the seller's row, and
        # wants the row of what is proven. If we had that one already, each would wait for the other.
        await sellers.set_live(connection, seller_id)
        await coverage.prove(connection, seller_id, proven)
        await certificates.write(connection, seller_id, certified_at=at, document=document)
        text = orjson.dumps(summary).decode()
        if await connection.execute(sql("bootstraps.certify"), seller_id, at, text) != "UPDATE 1":
            raise ErasedError(f"seller {seller_id} has been erased: there is nothing to start")


async def count_under_way(pool: Pool) -> int:
    """How many bulk starts are under way."""
    return int(await pool.fetchval(sql("bootstraps.count_under_way")))
