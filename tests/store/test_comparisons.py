"""Comparisons are durable by seller and day; a report has each object once; the erased leave nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, timedelta

from tests.store.databases import SELLER, at, until_a_lock_is_awaited, version
from topsync.model.difference import Difference, DifferenceKind, DifferenceOutcome
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.store import comparisons, erasures, orders
from topsync.store.comparisons import DayProgress, NightsOf
from topsync.store.database import Pool

TID = 4000000000000000101
DAY = date(2025, 11, 20)
NIGHT = date(2025, 11, 21)
REPORT = "night-2025-11-21"
MISSING = Difference(SELLER, Kind.ORDER, TID, TID, DAY, DifferenceKind.MISSING, looked_at=at(10))


async def test_a_day_keeps_its_first_night_and_what_its_last_listing_showed(pool: Pool) -> None:
    await comparisons.note_day(pool, SELLER, Kind.ORDER, DAY, night=NIGHT, unlisted=3)
    await comparisons.note_day(pool, SELLER, Kind.ORDER, DAY, night=NIGHT + timedelta(days=1), unlisted=None)
    progress = await comparisons.progress(pool, SELLER, Kind.ORDER)
    assert progress == {DAY: DayProgress(NIGHT, NIGHT + timedelta(days=1), NIGHT, 3)}
    assert await comparisons.progress(pool, SELLER, Kind.REFUND) == {}
    # Somebody who was late notes an older night.
    await comparisons.note_day(pool, SELLER, Kind.ORDER, DAY, night=NIGHT, unlisted=0)
    after = (await comparisons.progress(pool, SELLER, Kind.ORDER))[DAY]
    assert (after.counted_on, after.listed_on, after.unlisted) == (NIGHT + timedelta(days=1), NIGHT, 0)
    assert await comparisons.nights(pool) == {SELLER: NightsOf(after.counted_on, after.counted_on)}
    assert await comparisons.compared_on(pool, after.counted_on) == {(SELLER, Kind.ORDER): 1}
    await comparisons.forget_days(pool, DAY + timedelta(days=1))
    assert await comparisons.nights(pool) == {}


async def test_two_that_begin_and_end_a_report_at_once_have_one(pool: Pool) -> None:
    first = await comparisons.begin(pool, REPORT, night=NIGHT, at=at(0))
    assert await comparisons.begin(pool, REPORT, night=NIGHT, at=at(9)) == first
    assert await comparisons.nights_under_way(pool) == [first]
    for _ in range(2):
        await comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [MISSING])
    assert await comparisons.finish(pool, REPORT, at=at(60), days=5, days_left=1)
    assert not await comparisons.finish(pool, REPORT, at=at(90), days=9, days_left=9)
    (report,) = await comparisons.newest(pool, 5)
    assert (report.ended_at, report.days, report.days_left) == (at(60), 5, 1)
    (left,) = await comparisons.differences(pool, REPORT, limit=9)
    assert left == replace(MISSING, outcome=DifferenceOutcome.LEFT), "what was open at the end is left"


async def test_what_is_open_is_found_by_who_goes_on_and_what_is_settled_is_not(pool: Pool) -> None:
    await comparisons.begin(pool, REPORT, night=NIGHT, at=at(0))
    other = replace(MISSING, id=TID + 1, tid=TID + 1, what=DifferenceKind.SUM, note="payment")
    await comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [MISSING, other])
    assert await comparisons.open_of(pool, REPORT, SELLER, Kind.ORDER, DAY) == [MISSING, other]
    await comparisons.settle(pool, REPORT, Kind.ORDER, [TID], DifferenceOutcome.REPAIRED, looked_at=at(20))
    assert await comparisons.open_of(pool, REPORT, SELLER, Kind.ORDER, DAY) == [other]
    assert await comparisons.open_of(pool, REPORT, SELLER, Kind.REFUND, DAY) == []
    assert await comparisons.open_days(pool, REPORT) == {(SELLER, Kind.ORDER): [DAY]}
    counts = {(each.what, each.outcome): each.objects for each in await comparisons.counts(pool, REPORT)}
    assert counts == {
        (DifferenceKind.MISSING, DifferenceOutcome.REPAIRED): 1,
        (DifferenceKind.SUM, DifferenceOutcome.OPEN): 1,
    }
    assert await comparisons.some_ids(pool, REPORT, SELLER, Kind.ORDER, limit=1) == [TID]
    # It differs again in the same night.
    again = replace(MISSING, looked_at=at(30))
    await comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [again])
    assert again in await comparisons.open_of(pool, REPORT, SELLER, Kind.ORDER, DAY)


async def test_a_failure_is_named_once_and_goes_when_the_seller_was_compared_after_all(pool: Pool) -> None:
    await comparisons.begin(pool, REPORT, night=NIGHT, at=at(0))
    for reason in ("away", "refused"):
        await comparisons.fail(pool, REPORT, SELLER, Kind.ORDER, reason)
    (failure,) = await comparisons.failures(pool, REPORT)
    assert (failure.seller_id, failure.kind, failure.reason) == (SELLER, Kind.ORDER, "refused")
    await comparisons.clear_failure(pool, REPORT, SELLER, Kind.ORDER)
    assert await comparisons.failures(pool, REPORT) == []


async def test_of_an_erased_seller_nothing_is_written_and_nothing_stays(pool: Pool) -> None:
    async def write() -> None:
        await comparisons.note_day(pool, SELLER, Kind.ORDER, DAY, night=NIGHT, unlisted=0)
        await comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [MISSING])
        await comparisons.fail(pool, REPORT, SELLER, Kind.ORDER, "away")

    async def rows() -> int:
        found = [
            *await comparisons.progress(pool, SELLER, Kind.ORDER),
            *await comparisons.differences(pool, REPORT, limit=9),
            *await comparisons.failures(pool, REPORT),
        ]
        return len(found)

    await comparisons.begin(pool, REPORT, night=NIGHT, at=at(0))
    await write()
    assert await rows() == 3
    await erasures.begin(pool, SELLER)
    async for _ in erasures.clear(pool, SELLER):
        pass
    assert await rows() == 0
    await write()
    assert await rows() == 0


async def test_a_doubted_row_gives_way_to_a_fetch_of_the_same_modified_and_a_moved_row_does_not(
    pool: Pool,
) -> None:
    epoch = await orders.take_over(pool, 0, "test")
    stored = [version(TID, 5, 10), version(TID + 1, 5, 10)]
    await orders.TABLE.upsert(pool, stored, partition=0, epoch=epoch)
    await pool.execute(
        "update orders set trade = jsonb_set(trade, '{payment}', '\"0.01\"') where tid = any($1::bigint[])",
        [TID, TID + 1],
    )
    again = [version(TID, 5, 60), version(TID + 1, 5, 60)]
    await orders.TABLE.upsert(pool, again, partition=0, epoch=epoch)
    assert await payments(pool) == ["0.01", "0.01"], "without the doubt the guard keeps the row"
    await orders.TABLE.doubt(pool, {TID: 1, TID + 1: 99})
    again = [version(TID, 5, 90), version(TID + 1, 5, 90)]
    written = await orders.TABLE.upsert(pool, again, partition=0, epoch=epoch)
    assert await payments(pool) == ["186.00", "0.01"]
    assert {row.key: row.revision for row in written.ahead} == {TID: 2, TID + 1: 1}, "it is published anew"


async def payments(pool: Pool) -> list[str]:
    rows = await pool.fetch("select trade ->> 'payment' as payment from orders order by tid")
    return [row["payment"] for row in rows]


async def test_a_day_has_the_rows_that_are_dated_in_it(pool: Pool) -> None:
    epoch = await orders.take_over(pool, 0, "test")
    await orders.TABLE.upsert(pool, [version(TID, 5, 10), version(TID + 1, 8, 10)], partition=0, epoch=epoch)
    day = Span(at(-3600), at(-3599))  # when they were created
    assert await orders.TABLE.count_of_day(pool, SELLER, day) == 2
    assert await orders.TABLE.count_of_day(pool, SELLER, Span(at(-3599), at(0))) == 0
    assert await orders.TABLE.count_of_day(pool, SELLER + 1, day) == 0
    copies = await orders.TABLE.copies_of_day(pool, SELLER, day)
    assert copies == await orders.TABLE.copies(pool, [TID, TID + 1, TID + 2])
    assert (copies[TID].modified, copies[TID].revision, copies[TID].is_published) == (at(5), 1, False)


async def test_of_two_processes_the_one_that_has_looked_last_is_right_whoever_writes_last(pool: Pool) -> None:
    await comparisons.begin(pool, REPORT, night=NIGHT, at=at(0))
    await comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [MISSING])
    await comparisons.settle(pool, REPORT, Kind.ORDER, [TID], DifferenceOutcome.REPAIRED, looked_at=at(20))
    # Another looked before that, names it now, and gives up.
    await comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [replace(MISSING, looked_at=at(15))])
    await comparisons.settle(pool, REPORT, Kind.ORDER, [TID], DifferenceOutcome.LEFT, looked_at=at(18))
    (kept,) = await comparisons.differences(pool, REPORT, limit=9)
    assert kept == replace(MISSING, outcome=DifferenceOutcome.REPAIRED, looked_at=at(20))
    # It differs again; what was repaired before says nothing of that.
    again = replace(MISSING, looked_at=at(30))
    await comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [again])
    await comparisons.settle(pool, REPORT, Kind.ORDER, [TID], DifferenceOutcome.REPAIRED, looked_at=at(25))
    assert await comparisons.open_of(pool, REPORT, SELLER, Kind.ORDER, DAY) == [again]


async def test_what_the_former_release_has_written_gives_way_to_any_look(pool: Pool) -> None:
    await comparisons.begin(pool, REPORT, night=NIGHT, at=at(0))
    undated = replace(MISSING, looked_at=None)
    for written in (undated, MISSING, undated):
        await comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [written])
        assert await comparisons.open_of(pool, REPORT, SELLER, Kind.ORDER, DAY) == [written]
    await comparisons.settle(pool, REPORT, Kind.ORDER, [TID], DifferenceOutcome.REPAIRED, looked_at=at(5))
    assert await comparisons.open_days(pool, REPORT) == {}


async def test_what_one_process_left_too_early_another_may_have_repaired(pool: Pool) -> None:
    await comparisons.begin(pool, REPORT, night=NIGHT, at=at(0))
    other = replace(MISSING, id=TID + 1, tid=TID + 1)
    await comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [MISSING, other])
    ids = [TID, TID + 1]
    await comparisons.settle(pool, REPORT, Kind.ORDER, ids, DifferenceOutcome.LEFT, looked_at=at(20))
    await comparisons.settle(pool, REPORT, Kind.ORDER, [TID], DifferenceOutcome.REPAIRED, looked_at=at(30))
    await comparisons.finish(pool, REPORT, at=at(60), days=5, days_left=0)
    await comparisons.settle(pool, REPORT, Kind.ORDER, ids, DifferenceOutcome.REPAIRED, looked_at=at(40))
    found = {each.id: each.outcome for each in await comparisons.differences(pool, REPORT, limit=9)}
    assert found == {TID: DifferenceOutcome.REPAIRED, TID + 1: DifferenceOutcome.LEFT}


async def test_who_comes_late_changes_nothing_that_is_ended(pool: Pool) -> None:
    await comparisons.begin(pool, REPORT, night=NIGHT, at=at(0))
    await comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [MISSING])
    await comparisons.settle(pool, REPORT, Kind.ORDER, [TID], DifferenceOutcome.REPAIRED, looked_at=at(20))
    await comparisons.finish(pool, REPORT, at=at(60), days=5, days_left=1)
    late = replace(MISSING, looked_at=at(30))
    await comparisons.add(
        pool, REPORT, SELLER, Kind.ORDER, DAY, [late, replace(late, id=TID + 1, tid=TID + 1)]
    )
    (kept,) = await comparisons.differences(pool, REPORT, limit=9)
    assert kept == replace(MISSING, outcome=DifferenceOutcome.REPAIRED, looked_at=at(20))


async def test_nothing_is_added_while_a_report_ends(pool: Pool) -> None:
    await comparisons.begin(pool, REPORT, night=NIGHT, at=at(0))
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("update reports set ended_at = $2 where id = $1", REPORT, at(60))
        adding = asyncio.create_task(comparisons.add(pool, REPORT, SELLER, Kind.ORDER, DAY, [MISSING]))
        await until_a_lock_is_awaited(pool)
    await adding
    assert await comparisons.differences(pool, REPORT, limit=9) == []
