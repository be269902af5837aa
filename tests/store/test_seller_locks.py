"""A bulk start of a seller runs in one process at a time."""

from __future__ import annotations

import pytest

from tests.store.databases import SELLER
from topsync.store import sellers
from topsync.store.database import Pool
from topsync.store.seller_locks import SellerLocks, StartedElsewhereError, seller_locks
from topsync.store.sellers import Seller


async def both(pool: Pool) -> tuple[Seller, Seller]:
    one, two = await sellers.get(pool, SELLER), await sellers.get(pool, SELLER + 1)
    assert one is not None
    assert two is not None
    return one, two


async def require_free(locks: SellerLocks, seller: Seller) -> None:
    async with locks.held(seller):
        pass


async def test_a_seller_is_held_by_one_and_others_are_free(pool: Pool) -> None:
    one, two = await both(pool)
    async with seller_locks(pool) as ours, seller_locks(pool) as theirs, ours.held(one):
        await require_free(theirs, two)
        with pytest.raises(StartedElsewhereError, match="`topsync bootstrap status`"):
            await require_free(theirs, one)


async def test_a_lock_ends_with_the_work_also_when_that_fails(pool: Pool) -> None:
    one, _ = await both(pool)
    async with seller_locks(pool) as ours, seller_locks(pool) as theirs:
        with pytest.raises(ValueError, match="a bad day"):
            async with ours.held(one):
                raise ValueError("a bad day")
        await require_free(theirs, one)


async def test_a_process_that_dies_holds_nothing(pool: Pool) -> None:
    one, _ = await both(pool)
    async with seller_locks(pool) as theirs, seller_locks(pool) as ours, ours.held(one):
        ours.connection.terminate()
        for _ in range(100):
            try:
                await require_free(theirs, one)
            except StartedElsewhereError:
                await pool.fetchval("select pg_sleep(0.02)")
            else:
                return
        pytest.fail("the lock outlives its connection")
