"""Bulk starts and their slices, for tests of the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

from tests.store.databases import SELLER, at
from topsync.model.kind import Kind
from topsync.model.scheme import Scheme
from topsync.model.slice import Slice, Way
from topsync.store import bootstraps, slices
from topsync.store.bootstraps import Bootstrap
from topsync.store.database import Pool
from topsync.store.slices import SliceRow

DAY_ZERO = date(2025, 11, 20)
FIRST_DAY = DAY_ZERO - timedelta(days=90)

EXPORTED = Slice(
    seller_id=SELLER,
    number=0,
    kind=Kind.ORDER,
    way=Way.EXPORT,
    first_day=FIRST_DAY,
    last_day=DAY_ZERO - timedelta(days=1),
    expected=4,
)


async def begin(pool: Pool, seller_id: int = SELLER, *, day_zero: date = DAY_ZERO) -> Bootstrap:
    return await bootstraps.begin(
        pool, seller_id, scheme=Scheme.AUTO, first_day=FIRST_DAY, day_zero=day_zero, at=at(0)
    )


async def planned(pool: Pool, seller_id: int = SELLER, *others: Slice) -> Slice:
    """A bulk start with a slice that is exported, and others; gives the first."""
    await begin(pool, seller_id)
    of = replace(EXPORTED, seller_id=seller_id)
    await bootstraps.plan(pool, seller_id, [of, *others], at=at(0), listed_because=None)
    return await slices.get(pool, of)


async def requested(pool: Pool, of: Slice, *, task_id: int = 7, created_on: date = DAY_ZERO) -> Slice:
    await slices.requested(
        pool, of, task_id=task_id, created_at=at(1), created_on=created_on, adopted=created_on != DAY_ZERO
    )
    return await slices.get(pool, of)


def row(tid: int, modified: float | None) -> SliceRow:
    return SliceRow(tid, tid, None if modified is None else at(modified))
