"""P5: a night compares every day of every seller, goes on where it was killed, and ends with one report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from schemas import cloud_events, platform_time
from schemas.notification import ComparisonFinished, DifferencesFound
from tests.reconciler.comparing import DAYS, NIGHT, REPORT, Desk, comparing
from tests.support.eventually import eventually
from topsync.base import failpoints
from topsync.base.failpoints import Point
from topsync.model.difference import Difference, DifferenceKind
from topsync.model.kind import Kind
from topsync.simulator import paging
from topsync.simulator.director import Wish
from topsync.simulator.life import TradeType
from topsync.store import comparisons
from topsync.verify import day_comparison, differences, rotation
from topsync.verify.comparison import AWAY
from topsync.verify.differences import Doubtful

SOLD = "taobao.trades.sold.get"
COPIED_AFTER_SECONDS = 0.3


@pytest.fixture
async def desk(migrated_database_url: str) -> AsyncIterator[Desk]:
    async with comparing(migrated_database_url) as desk:
        yield desk


def listed(desk: Desk) -> int:
    """How many calls of the list by creation the platform has received."""
    apis = desk.simulator.ledger.as_json()["apis"]
    assert isinstance(apis, dict)
    return int(apis.get(SOLD, {}).get("total", 0))


async def report_of(desk: Desk) -> comparisons.Report:
    report = await comparisons.get(desk.pool, REPORT)
    assert report is not None
    return report


async def test_where_all_is_well_a_night_costs_a_call_a_day_and_the_pages_of_the_days_whose_turn_it_is(
    desk: Desk,
) -> None:
    await desk.duty.round()
    report = await report_of(desk)
    assert (report.days, report.days_left) == (2 * 2 * DAYS, 0)
    assert report.ended_at is not None
    assert await desk.found() == []
    assert desk.writer.hints == []
    assert listed(desk) == 2 * DAYS, "a day of few orders is listed by a single page, without a count"
    before = listed(desk)
    await desk.duty.round()
    await desk.another_process().round()
    assert listed(desk) == before, "the night is over"
    (record,) = desk.writer.notifications
    assert cloud_events.attributes(record.headers)["type"] == ComparisonFinished.event_type


async def test_what_differs_is_named_repaired_and_compared_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything_has_its_turn(monkeypatch)
    one, other = desk.sellers
    missing, older, summed, unpublished, status = await desk.some(one, 5)
    (refund,) = await desk.some(other, 1, Kind.REFUND)
    await desk.pool.execute("delete from orders where tid = $1", missing)
    await desk.pool.execute("update orders set modified = modified - interval '1 hour' where tid = $1", older)
    await desk.pool.execute(
        "update orders set trade = jsonb_set(trade, '{payment}', '\"0.01\"') where tid = $1", summed
    )
    await desk.pool.execute("update orders set published_revision = 0 where tid = $1", unpublished)
    await desk.pool.execute(
        "update orders set status = 'X', trade = jsonb_set(trade, '{status}', '\"X\"') where tid = $1", status
    )
    await desk.pool.execute(
        "update refunds set refund = jsonb_set(refund, '{refund_fee}', '\"0.01\"') where refund_id = $1",
        refund,
    )
    await desk.duty.round()
    assert await desk.how() == {
        missing: ("missing", "repaired"),
        older: ("behind", "repaired"),
        summed: ("sum", "repaired"),
        unpublished: ("behind", "repaired"),
        status: ("behind", "repaired"),
        refund: ("sum", "repaired"),
    }
    notes = {each.id: each.note for each in await desk.found()}
    assert (notes[summed], notes[refund]) == ("payment", "refund_fee")
    assert (notes[status], notes[unpublished]) == ("status", differences.NOT_PUBLISHED)
    assert {hint.reason for hint in desk.writer.hints} == {f"report {REPORT}"}
    kinds = [cloud_events.attributes(each.headers)["type"] for each in desk.writer.notifications]
    assert sorted(kinds) == sorted([DifferencesFound.event_type] * 2 + [ComparisonFinished.event_type])


def everything_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "turn", lambda _seller, _day, night: night)


async def test_a_day_whose_count_differs_is_compared_by_its_ids_whatever_its_turn(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "turn", lambda _seller, _day, night: night - timedelta(days=1))
    (missing,) = await desk.some(desk.sellers[0], 1)
    (refund,) = await desk.some(desk.sellers[1], 1, Kind.REFUND)
    await desk.pool.execute("delete from orders where tid = $1", missing)
    await desk.pool.execute("delete from refunds where refund_id = $1", refund)
    await desk.duty.round()
    assert await desk.how() == dict.fromkeys((missing, refund), ("missing", "repaired"))


async def test_a_refund_that_has_moved_to_another_day_is_found_by_the_day_it_has_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything_has_its_turn(monkeypatch)
    row = await desk.pool.fetchrow(
        "update refunds set modified = $1, refund = jsonb_set(refund, '{modified}', to_jsonb($2::text)) "
        "where refund_id = (select refund_id from refunds order by modified desc limit 1) "
        "returning refund_id",
        platform_time.start_of(NIGHT) - timedelta(days=22),
        "2025-10-28T16:00:00Z",
    )
    assert row is not None
    await desk.duty.round()
    assert await desk.how() == {row["refund_id"]: ("behind", "repaired")}


async def test_a_type_that_lists_leave_out_is_named_and_counts_as_explained_the_next_night(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = paging.types
    monkeypatch.setattr(paging, "types", lambda *arguments: usual(*arguments) - {TradeType.FIXED})
    of_past_days = await desk.pool.fetch(
        "select tid from orders where trade ->> 'type' = 'fixed' and created < $1",
        platform_time.start_of(NIGHT),
    )
    await desk.duty.round()
    found = {each.id: each for each in await desk.found() if each.kind is Kind.ORDER}
    assert found.keys() == {row["tid"] for row in of_past_days}
    assert {each.what.value for each in found.values()} == {"unlisted"}
    assert {each.note for each in found.values()} == {"trade type fixed"}
    # Now everything is known: the next night, counts alone show that nothing else differs.
    before, night = listed(desk), f"night-{NIGHT + timedelta(days=1)}"
    monkeypatch.setattr(rotation, "turn", lambda _seller, _day, night: night - timedelta(days=6))
    await desk.advance(timedelta(days=1))
    await desk.another_process().round()
    assert await desk.how(night) == {}
    days = await desk.pool.fetchval(
        "select count(*) from comparisons where kind = 'order' and since = $1", NIGHT
    )
    assert listed(desk) - before <= days + 3 * len(desk.sellers), "besides, the day that has ended since"


async def test_an_order_that_the_platform_does_not_know_stays_and_is_named(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything_has_its_turn(monkeypatch)  # the count of the day agrees
    (tid,) = await desk.some(desk.sellers[0], 1)
    await desk.pool.execute("update orders set tid = tid + 1 where tid = $1", tid)
    await desk.duty.round()
    assert await desk.how() == {tid: ("missing", "repaired"), tid + 1: ("unknown", "left")}
    assert tid + 1 not in {hint.tid for hint in desk.writer.hints}


async def test_a_seller_whose_session_is_refused_holds_up_no_other(desk: Desk) -> None:
    refused, other = desk.sellers
    desk.simulator.authorisations.expire(refused, refreshable=False)
    (missing,) = await desk.some(other, 1)
    await desk.pool.execute("delete from orders where tid = $1", missing)
    await desk.duty.round()
    assert await desk.how() == {missing: ("missing", "repaired")}
    report = await report_of(desk)
    assert (report.days, report.days_left) == (2 * DAYS, 2 * DAYS)
    failures = await comparisons.failures(desk.pool, REPORT)
    assert {each.seller_id for each in failures} == {refused.user_id}
    assert {each.reason for each in failures} == {AWAY}, "it is no seller that can be compared any more"


async def test_what_is_not_repaired_in_time_is_left_and_said_so(desk: Desk) -> None:
    desk.writer.idle = True
    (missing,) = await desk.some(desk.sellers[0], 1)
    await desk.pool.execute("delete from orders where tid = $1", missing)
    await desk.duty.round()
    assert await desk.how() == {missing: ("missing", "left")}


async def test_a_process_that_is_killed_leaves_what_it_did_and_another_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = await desk.some(desk.sellers[0], 3)
    await desk.pool.execute("delete from orders where tid = any($1::bigint[])", missing)
    desk.writer.idle = True  # so that it is killed in the middle of the repair
    work = asyncio.create_task(desk.duty.round())
    await eventually(lambda: desk.pool.fetchval("select count(*) from differences"))
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    desk.writer.idle = False
    noted = await desk.pool.fetchval("select count(*) from comparisons")
    assert 0 < noted < 2 * 2 * DAYS
    before = listed(desk)
    await desk.another_process().round()
    assert await desk.how() == dict.fromkeys(missing, ("missing", "repaired"))
    assert listed(desk) - before < 2 * DAYS + 20
    assert (await report_of(desk)).days == 2 * 2 * DAYS


async def test_what_changes_while_it_is_compared_seems_to_differ_at_first_and_is_not_reported(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything_has_its_turn(monkeypatch)
    seemed: list[Doubtful] = []
    usual = differences.first_look

    def first_look(*shown: Any) -> list[Doubtful]:
        found = list(usual(*shown))
        seemed.extend(found)
        return found

    monkeypatch.setattr(differences, "first_look", first_look)
    async with comparing(migrated_database_url, copy_seconds=4) as desk:
        seller = desk.sellers[0]
        tids = await desk.some(seller, 10)

        async def change() -> None:
            """Each change is copied a little later, in the order of the changes."""
            while True:
                for tid in tids:
                    desk.simulator.director.grant(seller.user_id, Wish("memo", tid))
                await asyncio.sleep(COPIED_AFTER_SECONDS)
                for tid in tids:
                    await desk.writer.write(seller.user_id, Kind.ORDER, tid)

        changing = asyncio.create_task(change())
        await desk.duty.round()
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        assert seemed, "the first look found some on the move"
        assert await desk.how() == {}
        assert (await report_of(desk)).ended_at is not None


class DiedHereError(BaseException):
    """Ends the duty at a fail point, as a kill does: nothing of ours catches it."""


@pytest.mark.parametrize("point", [point for point in failpoints.POINTS if point.startswith("comparison.")])
async def test_whatever_step_a_process_dies_at_the_night_ends_as_if_it_had_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, point: Point
) -> None:
    everything_has_its_turn(monkeypatch)
    missing, summed = await desk.some(desk.sellers[0], 2)
    await desk.pool.execute("delete from orders where tid = $1", missing)
    await desk.pool.execute(
        "update orders set trade = jsonb_set(trade, '{payment}', '\"0.01\"') where tid = $1", summed
    )

    def die(reached: Point) -> None:
        if reached == point:
            raise DiedHereError

    with monkeypatch.context() as armed:
        armed.setattr(failpoints, "reach", die)
        with pytest.raises((DiedHereError, BaseExceptionGroup)):
            await desk.duty.round()
    await desk.another_process().round()
    assert await desk.how() == {missing: ("missing", "repaired"), summed: ("sum", "repaired")}
    report = await report_of(desk)
    assert report.ended_at is not None
    assert (report.days, report.days_left) == (2 * 2 * DAYS, 0)


async def test_two_processes_at_once_make_one_report(desk: Desk) -> None:
    missing = await desk.some(desk.sellers[0], 2)
    await desk.pool.execute("delete from orders where tid = any($1::bigint[])", missing)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(desk.duty.round())
        tasks.create_task(desk.another_process().round())
    assert await desk.how() == dict.fromkeys(missing, ("missing", "repaired"))
    assert await desk.pool.fetchval("select count(*) from orders where tid = any($1::bigint[])", missing) == 2
    assert len(await comparisons.newest(desk.pool, 9)) == 1
    assert (await report_of(desk)).days == 2 * 2 * DAYS


async def test_what_a_process_has_named_and_somebody_repaired_since_is_not_left(desk: Desk) -> None:
    """It died, or is at the same report: whoever ends the report has looked at it first."""
    (tid,) = await desk.some(desk.sellers[0], 1)
    night_began = desk.duty.clock.now()
    await comparisons.begin(desk.pool, REPORT, night=NIGHT, at=night_began)
    day = NIGHT - timedelta(days=2)
    named = Difference(
        desk.sellers[0].user_id, Kind.ORDER, tid, tid, day, DifferenceKind.MISSING, looked_at=night_began
    )
    await comparisons.add(desk.pool, REPORT, named.seller_id, Kind.ORDER, day, [named])
    await desk.duty.round()
    assert await desk.how() == {tid: ("missing", "repaired")}


@pytest.mark.at_length
async def test_many_differences_of_a_day_are_repaired_some_at_a_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(day_comparison, "CANDIDATES_AT_MOST", 1)
    seller = desk.sellers[0].user_id
    rows = await desk.pool.fetch(
        "delete from orders where seller_id = $1 and created < $2 returning tid",
        seller,
        platform_time.start_of(NIGHT),
    )
    await desk.duty.round()
    assert await desk.how() == {row["tid"]: ("missing", "repaired") for row in rows}


async def test_a_night_that_is_too_short_begins_nothing_that_it_cannot_end_and_says_what_is_left(
    migrated_database_url: str,
) -> None:
    async with comparing(migrated_database_url, hours="02:00-02:30", copy_seconds=900) as desk:
        await desk.duty.round()
        assert (await report_of(desk)).ended_at is None
        assert listed(desk) == 0
        await desk.advance(timedelta(hours=1))
        await desk.duty.round()
        report = await report_of(desk)
        assert report.ended_at is not None
        assert (report.days, report.days_left) == (0, 2 * 2 * DAYS)


async def test_nothing_is_compared_outside_the_hours_and_a_night_that_was_cut_short_says_what_is_left(
    migrated_database_url: str,
) -> None:
    async with comparing(migrated_database_url, hours="03:00-04:00") as desk:
        await desk.duty.round()
        assert await comparisons.newest(desk.pool, 9) == []
        # A former process began this night, and died.
        night = NIGHT - timedelta(days=1)
        await comparisons.begin(
            desk.pool, f"night-{night}", night=night, at=desk.duty.clock.now() - timedelta(days=1)
        )
        seller = desk.sellers[0].user_id
        day = night - timedelta(days=3)
        await comparisons.note_day(desk.pool, seller, Kind.ORDER, day, night=night, unlisted=0)
        await desk.another_process().round()
        (report,) = await comparisons.newest(desk.pool, 9)
        assert report.ended_at is not None
        assert (report.days, report.days_left) == (1, 2 * 2 * (DAYS - 1) - 1), "of the days before that night"
