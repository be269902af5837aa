"""The version guard, the fence of the epoch and the repair by revisions (I2, I3)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.read_before import ReadBefore
from schemas.trade import Trade
from tests.store import writing
from tests.store.databases import SELLER, all_unpublished, at, trade, until_a_lock_is_awaited, version
from topsync.model.known import Known
from topsync.model.listed import Listed
from topsync.store import orders
from topsync.store.database import Connection, Pool, sql
from topsync.store.orders import OrderVersion, UnpublishedOrder
from topsync.store.versions import NotOwnerError, UnstorableError

STATUS = "WAIT_SELLER_SEND_GOODS"
PARTITION = 3
TID = 4000000000000000101


@pytest.fixture
async def epoch(pool: Pool) -> int:
    return await orders.take_over(pool, PARTITION, "test")


async def write(pool: Pool, epoch: int, *versions: OrderVersion) -> int:
    return await writing.write(orders.TABLE, pool, *versions, partition=PARTITION, epoch=epoch)


async def row(pool: Pool, tid: int = TID) -> asyncpg.Record:
    found = await pool.fetchrow("select * from orders where tid = $1", tid)
    assert found is not None
    return found


async def publish(pool: Pool, *tids: int) -> list[UnpublishedOrder]:
    return await writing.publish(orders.TABLE, pool, *tids)


@given(
    drawn=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from("ab")),
        min_size=1,
        max_size=5,
        unique_by=lambda drawn: drawn,
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_versions_of_an_order_end_in_the_same_row_whatever_their_order(
    pool: Pool, drawn: list[tuple[int, int, str]]
) -> None:
    """Each permutation is another order, all in the same table. States may be of the same moment."""
    await pool.execute("truncate orders")
    epoch = await orders.take_over(pool, PARTITION, "test")
    permutations = list(itertools.permutations(drawn))
    for step in range(len(drawn)):
        batch = []
        for tid, permutation in enumerate(permutations, start=1):
            modified, fetched, memo = permutation[step]
            batch.append(version(tid, modified, 10 + fetched, seller_memo=memo))
        await write(pool, epoch, *batch)
    found = await pool.fetch("select tid, modified, fetched_at, content_hash, trade from orders")
    assert len(found) == len(permutations)
    for stored in found:
        # Of two states of the same moment either is right, but it must be the same for all.
        candidates = [
            version(stored["tid"], modified, 10 + fetched, seller_memo=memo)
            for modified, fetched, memo in drawn
        ]
        newest = max(candidates, key=lambda each: (each.modified, each.fetched_at, each.content_hash))
        assert (stored["modified"], stored["fetched_at"]) == (newest.modified, newest.fetched_at)
        assert stored["content_hash"] == newest.content_hash
        assert orjson.loads(stored["trade"]) == newest.content


async def test_writing_the_same_versions_again_changes_nothing(pool: Pool, epoch: int) -> None:
    batch = [version(TID, 1, 5), version(TID + 1, 1, 5)]
    assert await write(pool, epoch, *batch) == 2
    before = [tuple(await row(pool, order.tid)) for order in batch]
    assert await write(pool, epoch, *batch) == 0
    assert [tuple(await row(pool, order.tid)) for order in batch] == before


@pytest.mark.parametrize(
    ("modified", "fetched", "memo", "wins", "revision"),
    [
        pytest.param(9, 99, "new", False, 1, id="older never wins, however late it was fetched"),
        pytest.param(11, 1, "new", True, 2, id="newer wins, however early it was fetched"),
        pytest.param(10, 21, "new", True, 2, id="the same second with other content wins when fetched later"),
        pytest.param(10, 19, "new", False, 1, id="the same second fetched earlier does not"),
        pytest.param(10, 25, "old", False, 1, id="the same content fetched later is no new revision"),
    ],
)
async def test_the_guard(
    pool: Pool, epoch: int, modified: float, fetched: float, memo: str, wins: bool, revision: int
) -> None:
    await write(pool, epoch, version(TID, 10, 20, seller_memo="old"))
    await write(
        pool,
        epoch,
        version(
            TID,
            modified,
            fetched,
            seller_memo=memo,
            status="TRADE_FINISHED" if wins else "WAIT_SELLER_SEND_GOODS",
        ),
    )
    found = await row(pool)
    assert found["revision"] == revision
    assert orjson.loads(found["trade"])["seller_memo"] == ("new" if wins else "old")
    assert found["status"] == ("TRADE_FINISHED" if wins else "WAIT_SELLER_SEND_GOODS")
    assert found["modified"] == at(max(10, modified) if wins else 10)


async def test_a_stored_time_in_the_future_hides_nothing(pool: Pool, epoch: int) -> None:
    """As a former version stored it, or this version while the clock was in doubt."""
    await write(pool, epoch, version(TID, 1000, 20, seller_memo="a lie"))
    paid = version(TID, 30, 31, seller_memo="paid")
    assert await write(pool, epoch, paid) == 0, "without a latest possible time"

    async def write_at(second: float, order: OrderVersion) -> int:
        written = await orders.TABLE.upsert(
            pool, [order], partition=PARTITION, epoch=epoch, latest_now=at(second)
        )
        return written.rows

    assert await write_at(1000, paid) == 0, "the time may have come"
    assert await write_at(999, version(TID, 30, 19, seller_memo="fetched before")) == 0
    assert await write_at(999, paid) == 1
    assert ((await row(pool))["modified"], (await row(pool))["revision"]) == (at(30), 2)
    assert await write_at(999, version(TID, 29, 40)) == 0, "and then the guard applies as usual"


@pytest.mark.parametrize(
    ("listed", "stored", "latest_now", "is_outstanding"),
    [
        pytest.param(30, (1000, 20), 999, True, id="what is stored lies ahead of time"),
        pytest.param(30, (1000, 20), 1000, False, id="or is simply newer"),
        pytest.param(30, (1000, 50), 999, False, id="fetched when the change had settled, it has it"),
        pytest.param(None, (10, 20), 999, True, id="the list lies ahead: whatever is stored may be old"),
        pytest.param(None, (10, 50), 999, False, id="until it was fetched later"),
        pytest.param(None, None, 999, True, id="or where nothing is stored"),
    ],
)
async def test_a_time_in_the_future_proves_nothing(
    pool: Pool,
    epoch: int,
    listed: float | None,
    stored: tuple[float, float] | None,
    latest_now: float,
    is_outstanding: bool,
) -> None:
    if stored:
        await write(pool, epoch, version(TID, *stored))
        await publish(pool, TID)
    row = Listed(TID, None if listed is None else at(listed), at(50))
    found = await orders.TABLE.outstanding(pool, [row], latest_now=at(latest_now))
    assert found == ({TID} if is_outstanding else set())


async def test_the_same_state_fetched_later_only_proves_that_it_was_still_current(
    pool: Pool, epoch: int
) -> None:
    await write(pool, epoch, version(TID, 10, 20, source="push"))
    await publish(pool, TID)
    assert await write(pool, epoch, version(TID, 10, 30, source="sweep", oaid="another")) == 1
    assert await orders.TABLE.known(pool, [TID]) == {
        TID: Known(at(10), at(30), True, "WAIT_SELLER_SEND_GOODS")
    }
    assert await orders.TABLE.unpublished(pool, [TID]) == []
    assert (await row(pool))["source"] == "push"


async def test_a_new_owner_makes_the_old_epoch_write_nothing(pool: Pool, epoch: int) -> None:
    newer = await orders.take_over(pool, PARTITION, "another")
    assert newer > epoch
    with pytest.raises(NotOwnerError):
        await write(pool, epoch, version(TID, 1, 1))
    assert await orders.TABLE.known(pool, [TID]) == {}
    assert await write(pool, newer, version(TID, 1, 1)) == 1


async def test_nobody_writes_a_partition_that_nobody_took_over(pool: Pool) -> None:
    with pytest.raises(NotOwnerError):
        await orders.TABLE.upsert(pool, [version(TID, 1, 1)], partition=9, epoch=1)


async def test_partitions_have_separate_epochs(pool: Pool, epoch: int) -> None:
    await orders.take_over(pool, PARTITION + 1, "another")
    assert await write(pool, epoch, version(TID, 1, 1)) == 1


async def test_a_take_over_waits_for_the_statement_that_is_under_way(pool: Pool, epoch: int) -> None:
    async with pool.acquire() as writer:
        transaction = writer.transaction()
        await transaction.start()
        versions = [version(TID, 1, 1)]
        await orders.TABLE.upsert(PoolOf(writer), versions, partition=PARTITION, epoch=epoch)  # type: ignore[arg-type]
        taking = asyncio.create_task(orders.take_over(pool, PARTITION, "another"))
        await until_a_lock_is_awaited(pool)
        assert not taking.done()
        await transaction.commit()
        assert await taking == epoch + 1
    # The statement of the former owner is done before the new owner begins to read.
    assert TID in await orders.TABLE.known(pool, [TID])


async def test_a_statement_that_meets_a_take_over_under_way_writes_nothing(pool: Pool, epoch: int) -> None:
    async with pool.acquire() as taker:
        transaction = taker.transaction()
        await transaction.start()
        await taker.fetchval(sql("orders.take_over"), PARTITION, "another")
        writing = asyncio.create_task(write(pool, epoch, version(TID, 1, 1)))
        await until_a_lock_is_awaited(pool)
        assert not writing.done()
        await transaction.commit()
        with pytest.raises(NotOwnerError):
            await writing
    assert await orders.TABLE.known(pool, [TID]) == {}


class PoolOf:
    """A pool of a given connection alone, so that its transaction can be held open."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        yield self._connection


async def test_an_unpublished_version_is_found_until_it_is_marked(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, version(TID, 1, 5), version(TID + 1, 1, 5), version(TID + 2, 1, 5))
    assert [order.tid for order in await all_unpublished(pool, orders.TABLE)] == [TID, TID + 1, TID + 2]
    (ahead,) = await publish(pool, TID)
    assert (ahead.tid, ahead.seller_id, ahead.revision, ahead.modified) == (TID, SELLER, 1, at(1))
    assert orjson.loads(ahead.value) == orjson.loads(trade(TID, 1).to_wire())
    assert [order.tid for order in await orders.TABLE.unpublished(pool, [TID, TID + 1])] == [TID + 1]
    assert [order.tid for order in await all_unpublished(pool, orders.TABLE)] == [TID + 1, TID + 2]


async def test_marking_an_older_revision_does_not_hide_a_newer_one(pool: Pool, epoch: int) -> None:
    """A newer version was written between reading and marking: it must still be published."""
    await write(pool, epoch, version(TID, 1, 5))
    ahead = await orders.TABLE.unpublished(pool, [TID])
    await write(pool, epoch, version(TID, 2, 6))
    await orders.TABLE.mark_published(pool, ahead)
    assert [order.revision for order in await orders.TABLE.unpublished(pool, [TID])] == [2]


async def test_marking_never_goes_back(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, version(TID, 1, 5))
    old = await orders.TABLE.unpublished(pool, [TID])
    await write(pool, epoch, version(TID, 2, 6))
    await publish(pool, TID)
    await orders.TABLE.mark_published(pool, old)
    assert await orders.TABLE.unpublished(pool, [TID]) == []


async def test_known_has_only_stored_orders(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, version(TID, 1, 5))
    assert await orders.TABLE.known(pool, [TID, TID + 1]) == {
        TID: Known(at(1), at(5), False, "WAIT_SELLER_SEND_GOODS")
    }
    await publish(pool, TID)
    assert (await orders.TABLE.known(pool, [TID]))[TID].published


@pytest.mark.parametrize(
    ("stored", "published", "listed", "settled", "is_outstanding"),
    [
        pytest.param(None, False, 10, 11, True, id="absent"),
        pytest.param((9, 50), True, 10, 11, True, id="older"),
        pytest.param((10, 11), True, 10, 11, False, id="as listed, and final for its second"),
        pytest.param((10, 10.5), True, 10, 11, True, id="as listed, fetched before its second was over"),
        pytest.param((11, 10.5), True, 10, 11, False, id="newer"),
        pytest.param((11, 50), False, 10, 11, True, id="newer but not published"),
    ],
)
async def test_an_order_is_outstanding_until_it_is_stored_and_published_as_listed(
    pool: Pool,
    epoch: int,
    stored: tuple[float, float] | None,
    published: bool,
    listed: float,
    settled: float,
    is_outstanding: bool,
) -> None:
    if stored:
        await write(pool, epoch, version(TID, *stored))
    if published:
        await publish(pool, TID)
    found = await orders.TABLE.outstanding(pool, [Listed(TID, at(listed), at(settled))])
    assert found == ({TID} if is_outstanding else set())


async def test_a_version_that_cannot_be_stored_is_refused_without_its_values(pool: Pool, epoch: int) -> None:
    good = version(TID, 1, 5)
    broken = trade(TID + 1, 1).model_copy(update={"status": "a\x00secret"})
    bad = OrderVersion(SELLER, broken.form(), at(5), "push")
    with pytest.raises(UnstorableError) as refused:
        await write(pool, epoch, good, bad)
    assert "secret" not in str(refused.value)
    assert await orders.TABLE.known(pool, [TID, TID + 1]) == {}


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_version_that_was_handed_on_and_is_no_json_is_refused(
    pool: Pool, epoch: int, *, is_stored: bool
) -> None:
    if is_stored:
        await write(pool, epoch, version(TID, 1, 5))
    known = ReadBefore.of(version(TID, 2, 6, type="fixed").trade)
    broken = known.form(Trade, b'{"platform_fields":{]')
    with pytest.raises(UnstorableError):
        await write(pool, epoch, OrderVersion(SELLER, broken, at(6), "bootstrap"), version(TID + 1, 1, 5))
    assert (await orders.TABLE.known(pool, [TID, TID + 1])).keys() == ({TID} if is_stored else set())


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_version_that_was_handed_on_brings_what_one_that_was_read_here_brings(
    pool: Pool, epoch: int, *, is_stored: bool
) -> None:
    if is_stored:
        await write(pool, epoch, version(TID, 1, 5, type="fixed"))
        await publish(pool, TID)
    read = version(TID, 2, 6, type="fixed", status="TRADE_FINISHED", source="bootstrap")
    handed_on = ReadBefore.of(read.trade).form(Trade, read.wire.encode())
    await write(pool, epoch, OrderVersion(SELLER, handed_on, at(6), "bootstrap"))
    words = ["shipped", "finished"] if is_stored else ["created", "paid", "shipped", "finished"]
    changed = ["status"] if is_stored else []
    assert await step_of(pool) == (words, STATUS if is_stored else None, changed, "bootstrap")
    stored = await row(pool)
    assert stored["status"] == "TRADE_FINISHED"
    assert orjson.loads(stored["trade"]) == read.content


async def test_states_are_streamed_per_seller(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, version(TID, 1, 5), version(TID + 1, 2, 5))
    found = {tid: state async for tid, state in orders.TABLE.states(pool, SELLER)}
    assert sorted(found) == [TID, TID + 1]
    assert found[TID].content_hash == trade(TID, 1).content_hash()
    assert [tid async for tid, _ in orders.TABLE.states(pool, SELLER + 1)] == []
    assert await orders.count_by_seller(pool) == {SELLER: 2}


async def test_ids_and_times_survive_the_database_unchanged(pool: Pool, epoch: int) -> None:
    tid = 2**63 - 1
    await write(pool, epoch, version(tid, 1, 5.000001))
    assert await orders.TABLE.known(pool, [tid]) == {
        tid: Known(at(1), at(5.000001), False, "WAIT_SELLER_SEND_GOODS")
    }
    assert (await row(pool, tid))["created"] == at(-3600)


# What subscribers learn of each version.


async def step_of(pool: Pool) -> tuple[list[str], str | None, list[str], str]:
    (ahead,) = await orders.TABLE.unpublished(pool, [TID])
    step = ahead.step
    return [str(word) for word in step.transitions], step.status_from, list(step.changed), ahead.source.value


async def test_each_version_says_what_has_happened_since_the_version_before(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, version(TID, 1, 1))
    assert await step_of(pool) == (["created", "paid"], None, [], "push")
    await publish(pool, TID)
    await write(pool, epoch, version(TID, 2, 2, status="TRADE_FINISHED", source="gap"))
    assert await step_of(pool) == (
        ["shipped", "finished", "corrected"], "WAIT_SELLER_SEND_GOODS", ["status"], "gap",
    )  # fmt: skip


async def test_the_words_of_an_unpublished_version_are_reported_with_the_next_version(
    pool: Pool, epoch: int
) -> None:
    """Otherwise an order that was paid just before a crash would never be reported as paid."""
    await write(pool, epoch, version(TID, 1, 1, status="WAIT_BUYER_PAY"))
    await publish(pool, TID)
    await write(pool, epoch, version(TID, 2, 2))
    await write(pool, epoch, version(TID, 3, 3, seller_memo="later"))
    assert await step_of(pool) == (["paid"], "WAIT_BUYER_PAY", ["seller_memo", "status"], "push")
    (left,) = await all_unpublished(pool, orders.TABLE)
    assert left.step.status_from == "WAIT_BUYER_PAY"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(version(TID, 1, 50, status="WAIT_BUYER_PAY"), id="an older version that does not win"),
        pytest.param(version(TID, 2, 50, source="sweep"), id="the same content found again"),
    ],
)
async def test_an_update_without_new_content_does_not_change_the_reported_words(
    pool: Pool, epoch: int, other: OrderVersion
) -> None:
    await write(pool, epoch, version(TID, 1, 1, status="WAIT_BUYER_PAY"))
    await publish(pool, TID)
    await write(pool, epoch, version(TID, 2, 2))
    before = await step_of(pool)
    await write(pool, epoch, other)
    assert await step_of(pool) == before == (["paid"], "WAIT_BUYER_PAY", ["status"], "push")


async def test_a_version_that_former_code_wrote_is_reported_as_an_update(pool: Pool, epoch: int) -> None:
    """Former code still runs when the schema is new already."""
    await write(pool, epoch, version(TID, 1, 1))
    await pool.execute("update orders set step = default")
    assert (await step_of(pool))[:2] == (["updated"], None)
