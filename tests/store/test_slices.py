"""Bulk starts and their slices are stored step by step, and each step can be repeated (P4)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.store import slices as made
from tests.store.databases import (
    SELLER,
    all_unpublished,
    at,
    refund_version,
    until_a_lock_is_awaited,
    version,
)
from tests.store.slices import DAY_ZERO, EXPORTED, FIRST_DAY, begin, planned, requested, row
from topsync.model.kind import Kind
from topsync.model.slice import Balance, LoadCounts, Slice, SliceState, Way
from topsync.model.span import Span
from topsync.store import bootstraps, certificates, coverage, orders, refunds, sellers, slices
from topsync.store.bootstraps import BootstrapStep
from topsync.store.database import Pool, sql
from topsync.store.sellers import SellerState
from topsync.store.slices import SliceRow

REFUNDS = replace(EXPORTED, number=1, kind=Kind.REFUND, expected=None)
NONE = LoadCounts()


async def test_a_bulk_start_under_way_keeps_its_day_zero_when_it_is_begun_again_after_midnight(
    pool: Pool,
) -> None:
    """The export was requested yesterday: increments that begin today would lose that day's orders."""
    await requested(pool, await planned(pool))
    resumed = await begin(pool, day_zero=DAY_ZERO + timedelta(days=1))
    assert (resumed.step, resumed.day_zero, resumed.first_day) == (
        BootstrapStep.UNDER_WAY,
        DAY_ZERO,
        FIRST_DAY,
    )
    (found,) = await slices.of_seller(pool, SELLER)
    assert found.task is not None
    assert found.task.task_id == 7


async def test_an_adopted_older_export_moves_day_zero_back_and_never_forward(pool: Pool) -> None:
    of = await planned(pool)
    await requested(pool, of, created_on=DAY_ZERO - timedelta(days=1))
    await requested(pool, of, created_on=DAY_ZERO + timedelta(days=1))
    state = await bootstraps.under_way(pool, SELLER)
    assert state.day_zero == DAY_ZERO - timedelta(days=1)


async def test_each_step_of_a_slice_is_stored_and_can_be_repeated(pool: Pool) -> None:
    assert await bootstraps.get(pool, SELLER) is None
    of = await planned(pool)
    assert (of.state, of.expected, of.days, of.task) == (SliceState.WAITING, 4, 90, None)
    for _ in range(2):
        of = await requested(pool, of)
    assert of.state is SliceState.REQUESTED
    for _ in range(2):
        await slices.downloaded(pool, of, check_code="abc", file_bytes=10)
    await slices.add_rows(pool, of, [row(1, 0)], NONE)
    await slices.add_rows(pool, of, [row(2, 0)], LoadCounts(2, 1, 0, 1))
    of = await slices.get(pool, of)
    assert (of.state, of.counts) == (SliceState.DOWNLOADED, LoadCounts(2, 1, 0, 1)), (
        "where the next run begins"
    )
    await slices.failed(pool, of, "a bad day")
    assert (await slices.get(pool, of)).failure == "a bad day"
    await slices.loaded(pool, of, LoadCounts(4, 2, 1, 1))
    of = await slices.get(pool, of)
    assert (of.state, of.counts, of.failure) == (SliceState.LOADED, LoadCounts(4, 2, 1, 1), None)
    balance = Balance(objects=3, counted=2, counted_at=at(3), missing=1, unlisted=1)
    await slices.stored(pool, of, balance)
    of = await slices.get(pool, of)
    assert (of.state, of.balance) == (SliceState.STORED, balance)


async def test_a_slice_that_is_requested_anew_forgets_the_former_file(pool: Pool) -> None:
    of = await requested(pool, await planned(pool))
    await slices.downloaded(pool, of, check_code="abc", file_bytes=10)
    await slices.add_rows(pool, of, [row(1, 0), row(2, None)], NONE)
    await slices.task_failed(pool, of)
    of = await slices.get(pool, of)
    assert (of.state, of.failed_tasks) == (SliceState.WAITING, 1)
    of = await requested(pool, of, task_id=8)
    assert of.task is not None
    assert (of.task.task_id, of.task.file_bytes) == (8, None)
    assert await slices.count_rows(pool, of) == 2
    await slices.downloaded(pool, of, check_code="abc", file_bytes=10)
    assert (await slices.get(pool, of)).counts == NONE
    assert await slices.count_rows(pool, of) == 0


async def test_rows_of_a_slice_count_once_with_their_newest_state(pool: Pool) -> None:
    of = await planned(pool)
    rows = [row(1, 5), row(1, 3), row(2, None), row(2, 4), row(3, None)]
    for _ in range(2):
        await slices.add_rows(pool, of, rows, NONE)
    await slices.add_rows(pool, of, [row(1, 2), row(2, None)], NONE)
    assert await slices.count_rows(pool, of) == 3
    assert await slices.known(pool, of, {2, 3, 4}) == {2, 3}
    assert await rows_of(pool, of) == [(1, at(5)), (2, at(4)), (3, None)]


async def rows_of(pool: Pool, of: Slice) -> list[tuple[int, datetime | None]]:
    return [
        (row.id, row.modified)
        async for some in certificates.rows(pool, of.seller_id, [of.number])
        for row in some
    ]


async def test_what_a_file_lacks_is_counted_once(pool: Pool) -> None:
    of = await planned(pool)
    await slices.add_rows(pool, of, [row(1, 5)], NONE)
    for _ in range(2):
        await slices.add_missing(pool, of, [row(2, 6), row(3, 7)])
    await slices.add_missing(pool, of, [row(4, 8)])
    assert await slices.count_missing(pool, of) == 3
    assert await slices.count_rows(pool, of) == 4
    await slices.downloaded(pool, of, check_code="abc", file_bytes=10)
    assert await slices.count_missing(pool, of) == 0, "another file lacks other orders"


async def test_a_slice_is_listed_from_its_start(pool: Pool) -> None:
    of = await planned(pool)
    await slices.add_rows(pool, of, [row(1, 5)], NONE)
    await slices.loaded(pool, of, LoadCounts(1, 0, 1, 0))
    await slices.begin_listing(pool, of)
    of = await slices.get(pool, of)
    assert (of.state, of.counts) == (SliceState.WAITING, NONE)
    assert await slices.count_rows(pool, of) == 0


async def test_an_exported_order_is_stored_only_when_it_is_as_new_as_in_the_file_and_published(
    pool: Pool,
) -> None:
    of = await requested(pool, await planned(pool))
    await slices.add_rows(pool, of, [row(1, 5), row(2, None)], NONE)

    async def missing() -> int:
        missing = await slices.count_unstored(pool, of)
        assert (await stored_to() is None) is (missing == 0)
        assert len(await slices.unstored(pool, of, at_most=9)) == missing
        return missing

    async def stored_to() -> int | None:
        return await slices.first_unstored(pool, of, after=0, at_once=1)

    epoch = await orders.take_over(pool, 0, "test")
    assert await missing() == 2
    await orders.TABLE.upsert(pool, [version(1, 4, 9), version(2, 4, 0.5)], partition=0, epoch=epoch)
    await orders.TABLE.mark_published(pool, await all_unpublished(pool, orders.TABLE))
    assert await missing() == 2, "an order is older than in the file, another was fetched before the export"
    await orders.TABLE.upsert(pool, [version(1, 5, 9), version(2, 4, 1)], partition=0, epoch=epoch)
    assert await missing() == 1, "an order is not published"
    assert await stored_to() == 0
    assert await slices.unstored(pool, of, at_most=9) == [row(1, 5)]
    await orders.TABLE.mark_published(pool, await all_unpublished(pool, orders.TABLE))
    assert await missing() == 0
    await slices.add_rows(pool, of, [row(3, 5), row(4, 5)], NONE)
    await orders.TABLE.upsert(pool, [version(4, 5, 9)], partition=0, epoch=epoch)
    await orders.TABLE.mark_published(pool, await all_unpublished(pool, orders.TABLE))
    assert await missing() == 1
    assert await stored_to() == 2, "the order after it is not there"


async def test_a_slice_of_refunds_is_stored_when_its_refunds_are(pool: Pool) -> None:
    """An order with the same id is no refund."""
    await planned(pool, SELLER, REFUNDS)
    await slices.add_rows(pool, REFUNDS, [SliceRow(7, 1, at(5))], NONE)
    epoch = await orders.take_over(pool, 0, "test")
    await orders.TABLE.upsert(pool, [version(7, 5, 9)], partition=0, epoch=epoch)
    await orders.TABLE.mark_published(pool, await all_unpublished(pool, orders.TABLE))
    assert await slices.unstored(pool, REFUNDS, at_most=9) == [SliceRow(7, 1, at(5))]
    await refunds.TABLE.upsert(pool, [refund_version(7, 1, 5, 9)], partition=0, epoch=epoch)
    assert await slices.count_unstored(pool, REFUNDS) == 1
    assert await slices.first_unstored(pool, REFUNDS, after=0) == 0
    await refunds.TABLE.mark_published(pool, await all_unpublished(pool, refunds.TABLE))
    assert await slices.count_unstored(pool, REFUNDS) == 0
    assert await slices.first_unstored(pool, REFUNDS, after=0) is None


async def test_lists_take_the_place_of_the_slices_that_are_not_loaded(pool: Pool) -> None:
    half = timedelta(days=45)
    first = replace(EXPORTED, last_day=FIRST_DAY + half)
    second = replace(EXPORTED, number=2, first_day=FIRST_DAY + half + timedelta(days=1))
    await begin(pool)
    await bootstraps.plan(pool, SELLER, [first, REFUNDS, second], at=at(0), listed_because=None)
    await slices.loaded(pool, first, LoadCounts(1, 1, 0, 0))
    listed = [replace(second, way=Way.LIST, last_day=second.first_day), replace(second, way=Way.LIST)]
    await bootstraps.list_instead(pool, SELLER, listed, because="no right")
    found = await slices.of_seller(pool, SELLER)
    assert [(each.kind, each.way, each.state) for each in found] == [
        (Kind.ORDER, Way.EXPORT, SliceState.LOADED),
        (Kind.ORDER, Way.LIST, SliceState.WAITING),
        (Kind.ORDER, Way.LIST, SliceState.WAITING),
        (Kind.REFUND, Way.EXPORT, SliceState.WAITING),
    ]
    assert len({each.number for each in found}) == 4
    assert (await bootstraps.under_way(pool, SELLER)).listed_because == "no right"


async def test_a_certificate_makes_the_seller_live_and_proves_the_slices_all_at_once(pool: Pool) -> None:
    await planned(pool)
    assert list(await slices.of_all(pool)) == [SELLER]
    proven = Span(at(-90 * 86400), at(0))
    await bootstraps.certify(pool, SELLER, at=at(60), summary={"digest": "abc"}, document="{}", proven=proven)
    state = await bootstraps.under_way(pool, SELLER)
    assert (state.step, state.summary) == (BootstrapStep.LIVE, {"digest": "abc"})
    assert (await coverage.proven(pool))[SELLER] == [proven]
    seller = await sellers.get(pool, SELLER)
    assert seller is not None
    assert seller.state is SellerState.LIVE
    assert await slices.of_all(pool) == {}
    kept = await certificates.last(pool, SELLER)
    assert kept is not None
    assert (kept.certified_at, kept.document) == (at(60), "{}")


async def test_a_certificate_waits_for_a_pull_that_claims_meanwhile(pool: Pool) -> None:
    """Found with 400 sellers: each had what the other needed, and PostgreSQL ended one of them."""
    await planned(pool)
    pulled = Span(at(0), at(10))
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            sql("coverage.record_window"),
            SELLER, pulled.start, pulled.end, "sweep", None, at(11), 0, 0, pulled.end, Kind.ORDER.plural,
        )  # fmt: skip
        certifying = asyncio.create_task(
            bootstraps.certify(
                pool, SELLER, at=at(60), summary={}, document="{}", proven=Span(at(-10), at(0))
            )
        )
        await until_a_lock_is_awaited(pool)
        await coverage.prove(connection, SELLER, pulled)
    await certifying
    assert (await coverage.proven(pool))[SELLER] == [Span(at(-10), at(10))]


async def test_a_bulk_start_of_a_live_seller_begins_anew(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await planned(pool)
    await slices.add_rows(pool, of, [row(tid, 0) for tid in range(1, 26)], NONE)
    await bootstraps.certify(pool, SELLER, at=at(60), summary={}, document="{}", proven=Span(at(-1), at(0)))
    anew = await begin(pool, day_zero=DAY_ZERO + timedelta(days=5))
    assert (anew.step, anew.day_zero, anew.summary, anew.planned_at) == (
        BootstrapStep.UNDER_WAY,
        DAY_ZERO + timedelta(days=5),
        None,
        None,
    )
    monkeypatch.setattr(slices, "ROWS_AT_ONCE", 10)
    await bootstraps.plan(pool, SELLER, [REFUNDS], at=at(70), listed_because=None)
    (found,) = await slices.of_seller(pool, SELLER)
    assert found.kind is Kind.REFUND
    assert await pool.fetchval("select count(*) from slice_rows") == 0


async def test_days_that_the_platform_no_longer_gives_are_not_claimed(pool: Pool) -> None:
    of = await planned(pool, SELLER, REFUNDS)
    for days in (2, 1):
        await bootstraps.move_first_day(pool, SELLER, FIRST_DAY + timedelta(days=days))
    await slices.move_first_day(pool, of, FIRST_DAY + timedelta(days=2))
    assert (await bootstraps.under_way(pool, SELLER)).first_day == FIRST_DAY + timedelta(days=2)
    assert (await slices.get(pool, of)).first_day == FIRST_DAY + timedelta(days=2)
    await slices.add_rows(pool, REFUNDS, [SliceRow(7, 1, at(5))], NONE)
    for _ in range(2):
        await slices.drop(pool, REFUNDS)
    assert [each.number for each in await slices.of_seller(pool, SELLER)] == [of.number]
    assert await slices.count_rows(pool, REFUNDS) == 0


async def test_an_unknown_slice_is_one_of_an_erased_seller(pool: Pool) -> None:
    unknown: Slice = replace(made.EXPORTED, number=9)
    with pytest.raises(sellers.ErasedError):
        await slices.add_rows(pool, unknown, [row(1, 0)], NONE)
    with pytest.raises(sellers.ErasedError):
        await slices.loaded(pool, unknown, NONE)
