"""A lease has one holder; what a former holder still writes is not written (I4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.store.databases import SELLER, at, emptied
from tests.support.eventually import eventually
from topsync.model.gap import Gap
from topsync.model.span import Span
from topsync.store import coverage, database, gaps, work_leases
from topsync.store.coverage import PulledWindow
from topsync.store.database import OUTAGE_ERRORS, Connection, Pool
from topsync.store.work_leases import LeaseLostError, WorkKind, WorkLease

DUTIES = ("push", "refetches")
SILENT_FOR = timedelta(seconds=10)
SELLERS = 2


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url, connections=8) as pool:
        yield pool


@asynccontextmanager
async def member(pool: Pool) -> AsyncIterator[tuple[Connection, UUID]]:
    """A process on a connection of its own, which ends with the block."""
    async with pool.acquire() as connection:
        id_ = uuid4()
        await work_leases.join(connection, id_, "a test")
        await work_leases.add(connection, DUTIES)
        yield connection, id_
        connection.terminate()


async def take_all(connection: Connection, id_: UUID) -> None:
    for kind in WorkKind:
        await work_leases.take(connection, id_, kind, duties=DUTIES, limit=100)


async def of_seller(connection: Connection, id_: UUID) -> WorkLease:
    found = [each.lease for each in await work_leases.held(connection, id_)]
    return next(lease for lease in found if lease.key == str(SELLER))


def window() -> PulledWindow:
    return PulledWindow(SELLER, Span(at(0), at(10)), "sweep", None, at(11), 1, 0, at(10))


async def test_each_piece_of_work_is_taken_once_and_counts_its_holders(pool: Pool) -> None:
    async with member(pool) as (first, one), member(pool) as (second, two):
        await take_all(first, one)
        await take_all(second, two)
        assert len(await work_leases.held(first, one)) == SELLERS + len(DUTIES)
        assert await work_leases.held(second, two) == []
        lease = await of_seller(first, one)
        await work_leases.give_back(first, one, [lease])
        await take_all(second, two)
        [held] = await work_leases.held(second, two)
        assert (held.lease.key, held.lease.epoch) == (str(SELLER), lease.epoch + 1)


async def test_how_the_work_is_shared(pool: Pool) -> None:
    async with member(pool) as (first, one), member(pool) as (_, two):
        await work_leases.take(first, one, WorkKind.DUTY, duties=DUTIES, limit=1)
        found = await work_leases.shares(first, DUTIES)
        assert found.members.keys() == {one, two}
        assert found.held == {WorkKind.SELLER: {one: 0, two: 0}, WorkKind.DUTY: {one: 1, two: 0}}
        assert found.free == {WorkKind.SELLER: SELLERS, WorkKind.DUTY: 1}


async def test_a_duty_of_another_release_is_left_to_it(pool: Pool) -> None:
    async with member(pool) as (connection, id_):
        await work_leases.take(connection, id_, WorkKind.DUTY, duties=["push"], limit=100)
        assert [each.lease.key for each in await work_leases.held(connection, id_)] == ["push"]
        assert (await work_leases.shares(connection, ["push"])).free[WorkKind.DUTY] == 0


async def test_the_work_of_a_process_whose_connection_ended_is_free_at_once(pool: Pool) -> None:
    async with member(pool) as (other, id_):
        async with member(pool) as (connection, dead):
            await take_all(connection, dead)

        async def is_buried() -> bool:
            return await work_leases.bury(other, silent_for=SILENT_FOR) == ["a test"]

        await eventually(is_buried)
        await take_all(other, id_)
        assert len(await work_leases.held(other, id_)) == SELLERS + len(DUTIES)


async def test_a_process_that_stands_still_is_buried_by_the_databases_clock(pool: Pool) -> None:
    async with member(pool) as (frozen, one), member(pool) as (other, _):
        await pool.execute("update reconcilers set seen_at = seen_at - interval '9 s' where id = $1", one)
        assert await work_leases.bury(other, silent_for=SILENT_FOR) == []
        await pool.execute("update reconcilers set seen_at = seen_at - interval '1 s' where id = $1", one)
        assert await work_leases.bury(other, silent_for=SILENT_FOR) == ["a test"]
        assert not await work_leases.beat(frozen, one), "it hears of it"


async def test_a_process_that_is_late_and_was_not_buried_goes_on(pool: Pool) -> None:
    async with member(pool) as (connection, id_):
        await take_all(connection, id_)
        await pool.execute("update reconcilers set seen_at = seen_at - interval '1 hour'")
        assert await work_leases.beat(connection, id_)
        assert await work_leases.bury(connection, silent_for=SILENT_FOR) == []
        assert len(await work_leases.held(connection, id_)) == SELLERS + len(DUTIES)


async def test_a_process_that_leaves_gives_everything_back(pool: Pool) -> None:
    async with member(pool) as (connection, id_), member(pool) as (other, next_):
        await take_all(connection, id_)
        await work_leases.leave(pool, id_)
        await work_leases.leave(pool, id_)
        await take_all(other, next_)
        assert len(await work_leases.held(other, next_)) == SELLERS + len(DUTIES)


async def test_a_former_holder_claims_nothing_any_more(pool: Pool) -> None:
    """The fence: without it, each of these would be written."""
    async with member(pool) as (connection, former), member(pool) as (other, holder):
        await take_all(connection, former)
        lease = await of_seller(connection, former)
        await coverage.record(pool, [window()], lease=lease)
        await work_leases.leave(pool, former)
        await take_all(other, holder)
        before = await everything(pool)
        with pytest.raises(LeaseLostError, match=f"has seller {SELLER} now"):
            await coverage.record(pool, [window()], lease=lease)
        with pytest.raises(LeaseLostError):
            await mark_pulled(pool, lease, await some_gaps(pool))
        await work_leases.note_pull(other, lease, at(99))
        assert await everything(pool) == before
        await coverage.record(pool, [window()], lease=await of_seller(other, holder))


async def mark_pulled(pool: Pool, lease: WorkLease, pulled: list[Gap]) -> None:
    async with work_leases.fenced(pool, lease) as connection:
        await gaps.mark_pulled(connection, pulled, at(1))


async def some_gaps(pool: Pool) -> list[Gap]:
    async with pool.acquire() as connection:
        await gaps.open_for_one(connection, SELLER, began=at(0), ended=at(5), cause="test")
    return (await gaps.open_gaps_of(pool, [SELLER]))[SELLER]


async def everything(pool: Pool) -> list[object]:
    """All that claims write."""
    queries = (
        "select count(*) from windows",
        "select proven::text from coverage",
        "select count(*) from gaps where pulled_at is not null or closed_at is not null",
        "select array_agg(pulled_at order by kind, key) from work_leases",
    )
    return [await pool.fetchval(query) for query in queries]


async def test_nobody_takes_a_lease_while_its_holder_writes_under_it(pool: Pool) -> None:
    async with member(pool) as (connection, former), member(pool) as (other, holder):
        await take_all(connection, former)
        lease = await of_seller(connection, former)
        async with work_leases.fenced(pool, lease):
            await work_leases.bury(other, silent_for=timedelta(seconds=-1))
            await work_leases.join(other, holder := uuid4(), "another")
            await take_all(other, holder)
            held = await work_leases.held(other, holder)
            assert len(held) == SELLERS + len(DUTIES) - 1
            assert lease.key not in {each.lease.key for each in held}
        await take_all(other, holder)
        assert (await of_seller(other, holder)).epoch == lease.epoch + 1


async def test_a_process_that_stands_still_while_it_writes_loses_its_transaction_and_its_lease(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a frozen process would keep its seller for as long as its connection lives."""
    monkeypatch.setattr(database, "IDLE_TRANSACTION", "100ms")
    async with member(pool) as (connection, former), member(pool) as (other, holder):
        await take_all(connection, former)
        lease = await of_seller(connection, former)
        await work_leases.leave(pool, former)

        async def is_taken() -> bool:
            await take_all(other, holder)
            return any(each.lease.key == lease.key for each in await work_leases.held(other, holder))

        async def write_slowly() -> None:
            async with work_leases.fenced(pool, lease) as frozen:
                await gaps.open_for_one(frozen, SELLER, began=at(0), ended=at(5), cause="not to be seen")
                await eventually(is_taken)
                await gaps.open_for_one(frozen, SELLER, began=at(1), ended=at(5), cause="not to be seen")

        with pytest.raises(OUTAGE_ERRORS):
            await write_slowly()
        assert await gaps.open_gaps(pool) == []


async def test_only_one_process_at_a_time_decides_and_the_others_do_not_wait(pool: Pool) -> None:
    async with (
        member(pool) as (first, _),
        member(pool) as (second, _),
        work_leases.sharing(first) as is_first,
        asyncio.timeout(5),
        work_leases.sharing(second) as is_second,
    ):
        assert (is_first, is_second) == (True, False)


async def test_the_time_of_the_last_pull_is_there_for_the_next_holder(pool: Pool) -> None:
    async with member(pool) as (connection, id_):
        await take_all(connection, id_)
        lease = await of_seller(connection, id_)
        await work_leases.note_pull(connection, lease, at(7))
        held = {each.lease.key: each.pulled_at for each in await work_leases.held(connection, id_)}
        assert held[lease.key] == at(7)
