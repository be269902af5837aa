"""Reconcilers find each other in the database, share the work, and take over what others leave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from reconciler.membership import Membership
from tests.store.databases import emptied
from tests.support.eventually import eventually
from topsync.store.database import Connection, Pool
from topsync.store.work_leases import WorkLease

DUTIES = ("push", "refetches", "backlog")
SELLERS = 20


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url, connections=8) as pool:
        await pool.execute(
            "insert into sellers (seller_id, nick, session_cipher) "
            "select n, 'nick ' || n, '' from generate_series(1, $1) as n",
            SELLERS - await pool.fetchval("select count(*) from sellers"),
        )
        yield pool


@dataclass
class Reconciling:
    """A process, as far as its membership goes."""

    membership: Membership
    connection: Connection
    busy: set[str] = field(default_factory=set)

    async def look(self) -> set[int]:
        await self.membership.look(self.connection, self.is_idle)
        return set(self.membership.sellers)

    def is_idle(self, lease: WorkLease) -> bool:
        return lease.key not in self.busy


@asynccontextmanager
async def process(pool: Pool, *, calm_after_seconds: float = 0.0) -> AsyncIterator[Reconciling]:
    """A process; with the block, its connection ends as when the process dies."""
    async with pool.acquire() as connection:
        yield Reconciling(Membership(pool, DUTIES, calm_after_seconds), connection)
        connection.terminate()


async def test_the_first_has_everything_and_a_newcomer_gets_its_half_once_it_has_been_there_for_a_while(
    pool: Pool,
) -> None:
    async with process(pool, calm_after_seconds=3600) as first, process(pool) as second:
        assert len(await first.look()) == SELLERS
        assert set(first.membership.held_duties) == set(DUTIES)
        await second.look()
        await first.look()
        assert not await second.look(), "not yet"
        first.membership.calm_after_seconds = 0
        await first.look()
        mine = await second.look()
        assert len(mine) == SELLERS / 2
        assert mine.isdisjoint(await first.look())
        assert len(first.membership.held_duties) + len(second.membership.held_duties) == len(DUTIES)


async def test_what_is_under_way_is_not_given_away(pool: Pool) -> None:
    async with process(pool) as first, process(pool) as second:
        sellers = await first.look()
        first.busy = {str(seller_id) for seller_id in sorted(sellers)[1:]} | set(DUTIES)
        await second.look()
        await first.look()
        assert await second.look() == {min(sellers)}
        first.busy.clear()
        await first.look()
        assert len(await second.look()) == SELLERS / 2


async def test_a_clean_stop_hands_everything_over_at_the_next_look(pool: Pool) -> None:
    async with process(pool) as first, process(pool) as second:
        await first.look()
        await second.look()
        await first.membership.leave()
        assert not first.membership.sellers
        assert len(await second.look()) == SELLERS
        assert set(second.membership.held_duties) == set(DUTIES)


async def test_after_a_death_the_others_take_over_at_a_next_look(pool: Pool) -> None:
    async with process(pool) as other, AsyncExitStack() as until_death:
        first = await until_death.enter_async_context(process(pool))
        await first.look()
        assert not await other.look()
        await until_death.aclose()

        async def has_all() -> bool:
            return len(await other.look()) == SELLERS

        await eventually(has_all)


async def test_a_process_that_others_took_for_dead_notices_and_joins_anew(pool: Pool) -> None:
    async with process(pool) as frozen, process(pool) as other:
        await frozen.look()
        await pool.execute("update reconcilers set seen_at = seen_at - interval '10 s'")
        assert len(await other.look()) == SELLERS
        before = frozen.membership.id
        assert not await frozen.look(), "it does not keep what it had"
        assert frozen.membership.id != before
        await other.look()
        assert len(await frozen.look()) == SELLERS / 2


async def test_a_rolling_restart_moves_each_seller_once(pool: Pool) -> None:
    """As by the manifests: a new process joins before an old process ends."""
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(process(pool, calm_after_seconds=0)) for _ in range(2)]
        for _ in range(3):
            for each in running:
                await each.look()
        before = await epochs(pool)
        for each in running:
            each.membership.calm_after_seconds = 3600
        for old in list(running):
            new = await stack.enter_async_context(process(pool, calm_after_seconds=3600))
            running.append(new)
            for each in running:
                await each.look()
            await old.membership.leave()
            running.remove(old)
            for each in running:
                await each.look()
        assert {key: epoch - before[key] for key, epoch in (await epochs(pool)).items()} == dict.fromkeys(
            before, 1
        )


async def epochs(pool: Pool) -> dict[str, int]:
    rows = await pool.fetch("select key, epoch from work_leases where kind = 'seller'")
    return {row["key"]: row["epoch"] for row in rows}
