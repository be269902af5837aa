"""Erasing in the store: nothing of an erased seller is written any more, and what goes leaves a tombstone."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import date, timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.store.databases import (
    SELLER,
    all_unpublished,
    at,
    refund_version,
    until_a_lock_is_awaited,
    version,
)
from tests.store.slices import planned, requested, row
from topsync.model.kind import Kind
from topsync.model.refetch import BACKLOG, Refetch
from topsync.model.scheme import Scheme
from topsync.model.slice import LoadCounts, Slice
from topsync.model.span import Span
from topsync.store import (
    bootstraps,
    certificates,
    coverage,
    detail_tasks,
    erasures,
    gaps,
    open_letters,
    orders,
    push_connections,
    refetches,
    refunds,
    replay_jobs,
    retention,
    sellers,
    slices,
)
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool, sql
from topsync.store.erasures import Left, Tombstone
from topsync.store.open_letters import OpenDeadLetter, Subject
from topsync.store.orders import OrderVersion
from topsync.store.push_connections import PushConnection
from topsync.store.replay_jobs import AskedBy, WantedReplay
from topsync.store.sellers import ErasedError, SellerState
from topsync.store.versions import NotOwnerError

OTHER = SELLER + 1
PARTITION = 3
TID = 4000000000000000101
DAY = date(2025, 11, 20)


@pytest.fixture
async def epoch(pool: Pool) -> int:
    return await orders.take_over(pool, PARTITION, "test")


async def write(pool: Pool, epoch: int, *versions: OrderVersion) -> int:
    return (await orders.TABLE.upsert(pool, versions, partition=PARTITION, epoch=epoch)).rows


async def publish(pool: Pool) -> None:
    await orders.TABLE.mark_published(pool, await all_unpublished(pool, orders.TABLE))


async def erase(pool: Pool, epoch: int, *tids: int) -> int:
    return await erasures.erase(pool, tids, partition=PARTITION, epoch=epoch, at=at(60))


async def finish(pool: Pool, epoch: int, *tids: int) -> None:
    """All that a finished erasure does."""
    await erasures.begin(pool, SELLER)
    await erase(pool, epoch, *tids)
    await erasures.forget_tombstones(pool, await erasures.all_tombstones(pool))
    async for _ in erasures.clear(pool, SELLER):
        pass
    await erasures.finish(pool, SELLER)


def of_other(tid: int, modified: float = 1) -> OrderVersion:
    return OrderVersion(OTHER, version(tid, modified, 5).trade, at(5), "push")


async def state_of(pool: Pool, seller_id: int = SELLER) -> SellerState:
    found = await sellers.get(pool, seller_id)
    assert found is not None
    return found.state


async def test_an_erased_seller_has_no_session_and_no_way_back_to_one(pool: Pool) -> None:
    await pool.execute(
        "update sellers set refresh_cipher = 'r', grant_facts = '{\"a\": 1}', authorised_at = now()"
    )
    before = await sellers.get(pool, SELLER)
    assert before is not None
    erasure = await erasures.begin(pool, SELLER)
    assert (erasure.orders, erasure.platform_notified, erasure.finished_at) == (0, False, None)
    row = await pool.fetchrow("select * from sellers where seller_id = $1", SELLER)
    assert row is not None
    assert (row["state"], row["session_cipher"], row["refresh_cipher"]) == ("erased", b"", None)
    assert (row["grant_facts"], row["authorised_at"]) == ("{}", None)

    # Whoever still has the session in hand writes none of it back, and wakes nobody.
    assert not await sellers.store_refreshed(pool, before, before.nick, b"new", sellers.UNKNOWN)
    assert not await sellers.refuse(pool, SELLER, before.version, "refused")
    assert not await sellers.cancel(pool, SELLER, at(99), "cancelled")
    assert not await sellers.pause(pool, SELLER, "a test")
    assert not await sellers.resume(pool, SELLER, "refused")
    async with pool.acquire() as connection:
        await sellers.set_live(connection, SELLER)
    assert await state_of(pool) is SellerState.ERASED
    assert await state_of(pool, OTHER) is SellerState.NEW
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute("update sellers set session_cipher = 'x' where seller_id = $1", SELLER)


async def test_beginning_again_goes_on_with_the_erasure_that_was_begun(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, version(TID, 1, 5), version(TID + 1, 1, 5))
    begun = await erasures.begin(pool, SELLER)
    await erasures.platform_notified(pool, SELLER)
    await erase(pool, epoch, TID)
    again = await erasures.begin(pool, SELLER)
    assert (begun.orders, again.orders, again.begun_at) == (2, 2, begun.begun_at)
    assert again.platform_notified


async def test_nothing_of_an_erased_seller_is_stored_and_others_are(pool: Pool, epoch: int) -> None:
    """A fetch in flight, a snapshot that comes late: both end here."""
    await write(pool, epoch, version(TID, 1, 5))
    await erasures.begin(pool, SELLER)
    assert await write(pool, epoch, version(TID, 2, 6), version(TID + 1, 1, 5), of_other(TID + 2)) == 1
    assert (await orders.TABLE.known(pool, [TID, TID + 1, TID + 2])).keys() == {TID, TID + 2}
    assert (await orders.TABLE.known(pool, [TID]))[TID].modified == at(1)
    assert await orders.TABLE.known(pool, [TID + 1]) == {}


async def test_an_erased_order_is_gone_at_once_and_a_tombstone_is_left(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, version(TID, 1, 5), version(TID + 1, 1, 5), of_other(TID + 2))
    await write(pool, epoch, version(TID, 2, 6, seller_memo="second"))
    await publish(pool)
    await erasures.begin(pool, SELLER)
    assert await erase(pool, epoch, TID, TID + 1, TID + 2, TID + 9) == 2
    assert (await orders.TABLE.known(pool, [TID, TID + 1, TID + 2])).keys() == {TID + 2}
    tombstones = await erasures.all_tombstones(pool)
    assert tombstones == [
        Tombstone(Kind.ORDER, TID, TID, SELLER, 3, at(60)),
        Tombstone(Kind.ORDER, TID + 1, TID + 1, SELLER, 2, at(60)),
    ]
    assert await erasures.tombstones(pool, [TID + 1]) == tombstones[1:]
    assert await erasures.left(pool, SELLER) == Left(0, 2)
    assert await erase(pool, epoch, TID, TID + 1) == 0, "a request that comes twice finds nothing"
    await erasures.forget_tombstones(pool, tombstones[:1])
    assert await erasures.all_tombstones(pool) == tombstones[1:]


async def test_refunds_go_with_their_order_and_without_one(pool: Pool, epoch: int) -> None:
    """A refund outlives its order's reach; and the revisions of both bound what comes after."""
    await write(pool, epoch, version(TID, 1, 1))
    for modified in (1, 2):
        found = [refund_version(7, TID, modified, modified), refund_version(8, TID + 1, modified, modified)]
        await refunds.TABLE.upsert(pool, found, partition=PARTITION, epoch=epoch)
    await erasures.begin(pool, SELLER)
    assert await erasures.left(pool, SELLER) == Left(orders=2, tombstones=0)
    (found_tids,) = [tids async for tids in erasures.tids(pool, SELLER, at_once=9)]
    assert sorted(found_tids) == [TID, TID + 1]

    third = [refund_version(9, TID, 3, 3)]
    assert (await refunds.TABLE.upsert(pool, third, partition=PARTITION, epoch=epoch)).rows == 0
    assert await erase(pool, epoch, TID, TID + 1) == 1
    left = [
        (tombstone.kind, tombstone.id, tombstone.tid, tombstone.revision)
        for tombstone in await erasures.all_tombstones(pool)
    ]
    assert left == [
        (Kind.ORDER, TID, TID, 2),
        (Kind.REFUND, 7, TID, 3),
        (Kind.REFUND, 8, TID + 1, 3),
    ]
    assert await erasures.left(pool, SELLER) == Left(orders=0, tombstones=3)
    assert await pool.fetchval("select revision_floor from sellers where seller_id = $1", SELLER) == 3


async def test_an_order_that_the_topic_may_have_leaves_a_tombstone_too(pool: Pool, epoch: int) -> None:
    """A crash between the transaction and the mark leaves it as if it had never been published."""
    await write(pool, epoch, version(TID, 1, 5))
    await erasures.begin(pool, SELLER)
    assert await erase(pool, epoch, TID) == 1
    assert [tombstone.tid for tombstone in await erasures.all_tombstones(pool)] == [TID]
    assert await all_unpublished(pool, orders.TABLE) == []


async def test_only_the_owner_of_the_partition_erases(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, version(TID, 1, 5))
    await erasures.begin(pool, SELLER)
    newer = await orders.take_over(pool, PARTITION, "another")
    with pytest.raises(NotOwnerError):
        await erase(pool, epoch, TID)
    assert TID in await orders.TABLE.known(pool, [TID])
    assert await erase(pool, newer, TID) == 1


async def test_an_old_request_erases_nothing_of_a_seller_that_is_back(pool: Pool, epoch: int) -> None:
    """Offsets that were set back read it again."""
    await finish(pool, epoch)
    await sellers.add(pool, seller_id=SELLER, nick="demo_one", session_cipher=b"new")
    await write(pool, epoch, version(TID, 1, 5))
    assert await erase(pool, epoch, TID) == 0
    assert TID in await orders.TABLE.known(pool, [TID])


async def test_a_seller_comes_back_only_when_all_is_erased_and_begins_anew(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, version(TID, 1, 5))
    await write(pool, epoch, version(TID, 2, 6, seller_memo="second"))
    await publish(pool)
    await erasures.begin(pool, SELLER)
    with pytest.raises(ErasedError, match="until it is done"):
        await sellers.add(pool, seller_id=SELLER, nick="demo_one", session_cipher=b"new")
    assert await state_of(pool) is SellerState.ERASED
    await finish(pool, epoch, TID)
    await sellers.add(pool, seller_id=SELLER, nick="demo_one", session_cipher=b"new")
    seller = await sellers.get(pool, SELLER)
    assert seller is not None
    assert (seller.state, seller.reason, seller.session_cipher) == (SellerState.NEW, None, b"new")
    assert await erasures.get(pool, SELLER) is None

    await write(pool, epoch, version(TID, 2, 6, seller_memo="second"), version(TID + 1, 1, 5))
    revisions = {row.tid: row.revision for row in await all_unpublished(pool, orders.TABLE)}
    assert revisions == {TID: 4, TID + 1: 4}, "above the tombstone's: readers drop what is not above"
    (first, _) = await all_unpublished(pool, orders.TABLE)
    assert first.step.transitions[0] == "created"


async def test_what_is_noted_for_an_erased_seller_is_not_kept(pool: Pool) -> None:
    """Everything that may still be under way: a batch, a pull, a lost connection, a request."""
    await erasures.begin(pool, SELLER)
    await note_everything(pool)
    for table in ("refetches", "windows", "coverage", "gaps", "replays"):
        found = await pool.fetch(f"select distinct seller_id from {table}")
        assert [row["seller_id"] for row in found] == [OTHER], table


async def note_everything(pool: Pool) -> None:
    """A row of each kind for both sellers, as the services write them."""
    connection = PushConnection(UUID(int=1), "default", at(0), at(1), at(2), "lost", None)
    await push_connections.write(pool, connection)
    async with pool.acquire() as lent:
        (lost,) = await push_connections.lost(lent, silent_for=timedelta(days=1))
        await gaps.open_for_all(lent, lost, Scheme.AUTO, now=at(3))
    for seller_id in (SELLER, OTHER):
        span = Span(at(0), at(60))
        window = PulledWindow(seller_id, span, "sweep", None, at(70), 1, 0, at(60))
        await coverage.record(pool, [window])
        wanted = WantedReplay.of_seller(f"job {seller_id}", seller_id, at(0), at(60), dry_run=False)
        await replay_jobs.request(pool, wanted, AskedBy.OPERATOR)
        refetch = Refetch(seller_id, seller_id, "x", at(0), at(0), None, "push", "not_there")
        await refetches.postpone(pool, [refetch], wait=timedelta(0))


async def begin_bootstrap(pool: Pool, seller_id: int) -> Slice:
    of = await planned(pool, seller_id)
    await slices.add_rows(pool, of, [row(TID, 0), row(TID + 1, None)], LoadCounts())
    return of


async def test_everything_else_of_a_seller_is_cleared_and_nothing_of_others(pool: Pool, epoch: int) -> None:
    await note_everything(pool)
    assert await retention.delete(pool, "windows", before=at(1000), limit=10) == 2
    for seller_id in (SELLER, OTHER):
        await begin_bootstrap(pool, seller_id)
        proven = Span(at(-1), at(0))
        await bootstraps.certify(
            pool, seller_id, at=at(9), summary={"digest": "x"}, document="{}", proven=proven
        )
        async with pool.acquire() as connection:
            await certificates.write(connection, seller_id, certified_at=at(9), document="{}")
        seller = await sellers.get(pool, seller_id)
        assert seller is not None
        await sellers.warning_given(pool, seller, 30)
        late = Refetch(seller_id + 10, seller_id, "x", at(0), at(0), None, "push", BACKLOG)
        await refetches.postpone(pool, [late], wait=timedelta(0))
        letter = OpenDeadLetter(Subject.of_order(seller_id, "refused"), f"event {seller_id}", seller_id)
        await open_letters.note(pool, [letter], kept=timedelta(days=90))
        assert await detail_tasks.begin(pool, seller_id, sources=["push"], limit=1, asked_at=at(1))
    await write(pool, epoch, version(TID, 1, 5), of_other(TID + 1))
    found = await erasures.preview(pool, SELLER)
    assert (found.stored[Kind.ORDER], found.refetches, found.bootstraps, found.certificates) == (1, 2, 1, 1)
    assert (found.slice_rows, found.windows, found.gaps, found.replays) == (2, 1, 1, 1)
    others = await erasures.preview(pool, OTHER)

    await finish(pool, epoch, TID)

    assert set(vars_of(await erasures.preview(pool, SELLER))) == {0}
    assert await erasures.preview(pool, OTHER) == others
    tables = await pool.fetch(
        "select table_name as name from information_schema.columns "
        "where table_schema = 'public' and column_name = 'seller_id'"
    )
    kept = {
        table["name"]
        for table in tables
        if await pool.fetchval(f"select count(*) from {table['name']} where seller_id = $1", SELLER)
    }
    assert kept == {"sellers", "erasures"}, "a new table has to be cleared as well"
    erasure = await erasures.get(pool, SELLER)
    assert erasure is not None
    assert erasure.finished_at is not None


def vars_of(preview: erasures.Preview) -> list[int]:
    found = asdict(preview)
    return [*found.pop("stored").values(), *found.values()]


async def test_large_tables_are_cleared_some_rows_at_a_time(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that takes longer than the database's bound for statements would never end."""
    monkeypatch.setattr(erasures, "ROWS_AT_ONCE", 10)
    of = await begin_bootstrap(pool, SELLER)
    await slices.add_rows(pool, of, [row(tid, 0) for tid in range(1, 26)], LoadCounts())
    await erasures.begin(pool, SELLER)
    assert [deleted async for deleted in erasures.clear(pool, SELLER)] == [10, 10, 7, 2]
    assert [deleted async for deleted in erasures.clear(pool, SELLER)] == [0]


async def test_a_bulk_start_under_way_learns_that_its_seller_was_erased(pool: Pool, epoch: int) -> None:
    of = await begin_bootstrap(pool, SELLER)
    await finish(pool, epoch)
    with pytest.raises(ErasedError):
        await slices.add_rows(pool, of, [row(TID, 0)], LoadCounts())
    with pytest.raises(ErasedError):
        await bootstraps.under_way(pool, SELLER)
    with pytest.raises(ErasedError):
        await begin_bootstrap(pool, SELLER)
    with pytest.raises(ErasedError):
        await requested(pool, of)
    with pytest.raises(ErasedError):
        await bootstraps.plan(pool, SELLER, [of], at=at(0), listed_because=None)
    with pytest.raises(ErasedError):
        await bootstraps.certify(
            pool, SELLER, at=at(9), summary={}, document="{}", proven=Span(at(-1), at(0))
        )
    assert set(vars_of(await erasures.preview(pool, SELLER))) == {0}


async def test_clearing_waits_for_the_rows_that_are_being_added(pool: Pool) -> None:
    """Else they would come in behind it, or it would fail on them."""
    of = await begin_bootstrap(pool, SELLER)
    await erasures.begin(pool, SELLER)
    async with pool.acquire() as adding:
        transaction = adding.transaction()
        await transaction.start()
        await slices.add_rows(adding, of, [row(TID + 5, 0)], LoadCounts())  # type: ignore[arg-type]
        clearing = asyncio.create_task(_clear(pool))
        await until_a_lock_is_awaited(pool)
        assert not clearing.done()
        await transaction.commit()
        await clearing
    assert await pool.fetchval("select count(*) from slice_rows") == 0


async def test_rows_that_come_while_their_export_is_cleared_are_not_added(pool: Pool) -> None:
    """No constraint would refuse them, and nobody would ever take them away."""
    of = await begin_bootstrap(pool, SELLER)
    async with pool.acquire() as clearing:
        transaction = clearing.transaction()
        await transaction.start()
        for statement in ("lock_slices", "clear_rest_of_slice_rows", "clear_export_slices"):
            await clearing.execute(sql(f"erasures.{statement}"), SELLER)
        adding = asyncio.create_task(slices.add_rows(pool, of, [row(TID + 5, 0)], LoadCounts()))
        await until_a_lock_is_awaited(pool)
        assert not adding.done()
        await transaction.commit()
        with pytest.raises(ErasedError):
            await adding
    assert await pool.fetchval("select count(*) from slice_rows") == 0


async def _clear(pool: Pool) -> None:
    async for _ in erasures.clear(pool, SELLER):
        pass


async def test_a_pull_that_is_being_recorded_is_waited_for(pool: Pool) -> None:
    """What it writes is there when the seller is erased, and cleared with the rest."""
    async with pool.acquire() as recording:
        transaction = recording.transaction()
        await transaction.start()
        await coverage.prove(recording, SELLER, Span(at(0), at(1)))
        beginning = asyncio.create_task(erasures.begin(pool, SELLER))
        await until_a_lock_is_awaited(pool)
        assert not beginning.done()
        await transaction.commit()
        await beginning
    await _clear(pool)
    assert await pool.fetchval("select count(*) from coverage") == 0


async def test_the_orders_that_are_left_come_some_at_a_time(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, *(version(TID + number, 1, 5) for number in range(5)), of_other(TID + 9))
    found = [some async for some in erasures.tids(pool, SELLER, at_once=2)]
    assert [len(some) for some in found] == [2, 2, 1]
    assert {tid for some in found for tid in some} == {TID + number for number in range(5)}


async def test_the_erp_views_do_not_show_what_awaits_its_tombstone(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, version(TID, 1, 5), of_other(TID + 1))
    await erasures.begin(pool, SELLER)
    await erase(pool, epoch, TID)
    assert await erasures.left(pool, SELLER) == Left(0, 1)
    for view in ("orders", "order_lines"):
        assert [row["tid"] for row in await pool.fetch(f"select tid from erp.{view}")] == [TID + 1]


async def test_which_sellers_are_erased(pool: Pool) -> None:
    assert await erasures.erased_sellers(pool) == set()
    await erasures.begin(pool, SELLER)
    assert await erasures.erased_sellers(pool) == {SELLER}
    assert await erasures.erased_sellers(pool, [SELLER, OTHER, 7]) == {SELLER}
    assert await erasures.erased_sellers(pool, [OTHER]) == set()
