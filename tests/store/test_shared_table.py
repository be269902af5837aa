"""A table for all partitions of a process: a single statement, and separate outcomes."""

from __future__ import annotations

import asyncio

import pytest

from schemas.trade import Trade
from schemas.transitions import Transition
from tests.store.databases import SELLER, all_unpublished, at, version
from topsync.store import orders
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.shared_table import SharedTable, SharedTables
from topsync.store.versions import NotOwnerError, PartitionRows, UnstorableError, Written

TID = 4000000000000000101
PARTITIONS = 5

UNSTORABLE = "a\x00b"
"""No text of PostgreSQL's."""


@pytest.fixture
async def epochs(pool: Pool) -> list[int]:
    return [await orders.take_over(pool, partition, "test") for partition in range(PARTITIONS)]


async def write_all(
    table: SharedTable[OrderVersion, Transition], parts: list[PartitionRows[OrderVersion]]
) -> list[Written[Transition] | BaseException]:
    """All at once."""
    return await asyncio.gather(*(table.upsert(part) for part in parts), return_exceptions=True)


async def statements(pool: Pool) -> int:
    """How many transactions have written orders: each statement is a transaction."""
    return int(await pool.fetchval("select count(distinct xmin::text) from orders"))


async def test_parts_of_several_partitions_become_a_single_statement(pool: Pool, epochs: list[int]) -> None:
    table = SharedTables(pool).of(orders.TABLE)
    parts = [
        PartitionRows(number, epochs[number], [version(TID + number, 1, 2)]) for number in range(PARTITIONS)
    ]
    written = await write_all(table, parts)
    assert [outcome.rows for outcome in written if isinstance(outcome, Written)] == [1] * PARTITIONS
    assert [
        [ahead.key for ahead in outcome.ahead] for outcome in written if isinstance(outcome, Written)
    ] == [[TID + number] for number in range(PARTITIONS)]
    assert await statements(pool) == 1


async def test_a_partition_that_was_lost_is_refused_alone(pool: Pool, epochs: list[int]) -> None:
    await orders.take_over(pool, 2, "another")
    parts = [
        PartitionRows(number, epochs[number], [version(TID + number, 1, 2)]) for number in range(PARTITIONS)
    ]
    written = await write_all(SharedTables(pool).of(orders.TABLE), parts)
    assert isinstance(written[2], NotOwnerError)
    assert "partition 2" in str(written[2])
    assert [type(outcome) for outcome in written[:2] + written[3:]] == [Written] * 4
    assert (await orders.TABLE.known(pool, range(TID, TID + PARTITIONS))).keys() == {
        TID,
        TID + 1,
        TID + 3,
        TID + 4,
    }


async def test_a_version_that_cannot_be_stored_affects_only_its_partition(
    pool: Pool, epochs: list[int]
) -> None:
    versions = [version(TID + number, 1, 2) for number in range(PARTITIONS)]
    broken = Trade.from_wire(versions[3].wire).model_copy(update={"status": UNSTORABLE})
    versions[3] = OrderVersion(SELLER, broken.form(), at(2), "push")
    parts = [PartitionRows(number, epochs[number], [versions[number]]) for number in range(PARTITIONS)]
    written = await write_all(SharedTables(pool).of(orders.TABLE), parts)
    assert isinstance(written[3], UnstorableError)
    assert [type(outcome) for outcome in written[:3] + written[4:]] == [Written] * 4
    assert len(await orders.TABLE.known(pool, range(TID, TID + PARTITIONS))) == 4


async def test_each_caller_gets_the_state_of_its_own_orders(pool: Pool, epochs: list[int]) -> None:
    table = SharedTables(pool).of(orders.TABLE)
    await table.upsert(PartitionRows(0, epochs[0], [version(TID, 1, 2), version(TID + 1, 3, 4)]))
    first, both, none = await asyncio.gather(
        table.known({TID}), table.known({TID, TID + 1}), table.known({TID + 2})
    )
    assert [set(first), set(both), set(none)] == [{TID}, {TID, TID + 1}, set()]
    assert first[TID].modified == at(1)


async def test_published_versions_are_marked_for_all_partitions(pool: Pool, epochs: list[int]) -> None:
    table = SharedTables(pool).of(orders.TABLE)
    written = [await table.upsert(PartitionRows(n, epochs[n], [version(TID + n, 1, 2)])) for n in (0, 1)]
    await asyncio.gather(*(table.mark_published(outcome.ahead) for outcome in written))
    assert await all_unpublished(pool, orders.TABLE) == []
