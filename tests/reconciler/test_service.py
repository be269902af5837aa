"""The reconciler as a whole, on a real database: it works, goes on through outages, and leaves in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from reconciler.duties import Duties
from reconciler.membership import Membership
from reconciler.service import FORMER_RELEASE_LOCK, Reconciler
from reconciler.under_way import UnderWay
from tests.reconciler.pulling import SELLERS, FakePuller, puller_of_sellers, pulls_by
from tests.store.databases import emptied
from tests.support.eventually import eventually
from topsync.base.service import Lifetime
from topsync.store import database
from topsync.store.database import Pool

SHORT = 0.05


@dataclass
class Rounds:
    """A duty that counts its rounds."""

    count: int = 0

    async def round(self) -> None:
        self.count += 1


@dataclass
class Running:
    """A reconciler that runs."""

    pool: Pool
    puller: FakePuller
    lifetime: Lifetime = field(default_factory=Lifetime)
    duty: Rounds = field(default_factory=Rounds)
    handed_back: int = 0

    async def hand_back(self) -> None:
        self.handed_back += 1

    async def has_pulled_all(self) -> bool:
        return sorted(self.puller.pulled) == SELLERS

    async def has_noted_all(self) -> bool:
        query = "select count(*) from work_leases where pulled_at is not null"
        return bool(await self.pool.fetchval(query) == len(SELLERS))

    async def free(self) -> int:
        query = (
            "select count(*) from work_leases where not exists (select from reconcilers where id = holder)"
        )
        found: int = await self.pool.fetchval(query)
        return found


@asynccontextmanager
async def running(pool: Pool) -> AsyncIterator[Running]:
    puller, vault = await puller_of_sellers(pool)
    puller.may_end.set()
    found = Running(pool, puller)
    woken = asyncio.Event()
    duties = Duties({"counting": [found.duty]}, UnderWay(woken.set))
    reconciler = Reconciler(
        pool=pool,
        membership=Membership(pool, duties.known, 0.0),
        pulls=pulls_by(puller, vault, woken.set),
        duties=duties,
        hand_back=found.hand_back,
        poll_seconds=SHORT,
        woken=woken,
    )
    work = asyncio.create_task(reconciler.run(found.lifetime))
    try:
        yield found
    finally:
        found.lifetime.stop()
        await work


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url, connections=8) as pool:
        yield pool


async def test_it_pulls_every_seller_does_its_duties_and_gives_everything_back_at_its_end(pool: Pool) -> None:
    async with running(pool) as found:
        await eventually(found.has_pulled_all)
        assert found.lifetime.ready
        assert found.duty.count
    assert found.handed_back == 2, "before it began, and at its end"
    assert await pool.fetchval("select count(*) from reconcilers") == 0
    assert await found.free() == len(SELLERS) + 1


async def test_it_goes_on_after_it_lost_its_connection(pool: Pool) -> None:
    async with running(pool) as found:
        await eventually(found.has_noted_all)
        before = found.duty.count
        await pool.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where pid <> pg_backend_pid() and datname = current_database()"
        )

        async def goes_on() -> bool:
            return found.duty.count > before + 2 and await found.free() == 0

        await eventually(goes_on)
        assert await found.has_pulled_all(), "nobody was pulled again for that"


async def test_it_stands_by_while_a_reconciler_of_the_former_release_works_and_keeps_that_out_afterwards(
    pool: Pool,
) -> None:
    async with pool.acquire() as former:
        assert await database.try_lock(former, FORMER_RELEASE_LOCK)
        async with running(pool) as found:

            async def is_ready() -> bool:
                return found.lifetime.ready

            await eventually(is_ready)
            assert await pool.fetchval("select count(*) from reconcilers") == 0
            assert not found.puller.requests
            await database.unlock(former, FORMER_RELEASE_LOCK)
            await eventually(found.has_pulled_all)
            assert not await database.try_lock(former, FORMER_RELEASE_LOCK)
        assert await database.try_lock(former, FORMER_RELEASE_LOCK)
        await database.unlock(former, FORMER_RELEASE_LOCK)
