"""`topsync coverage`, `gaps`, `lateness` and `budget` say what is there, to people and machines (P5)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from schemas import platform_time
from tests.store.databases import SELLER, emptied
from tests.support.calendars import calendar_of
from topsync.base.settings import CoverageSettings
from topsync.model.arrivals import BUCKETS, ArrivalCounts, LateArrival, Measured
from topsync.model.gap import Gap
from topsync.model.span import Span
from topsync.operate import budget_command, coverage_command, gap_waits, gaps_command, lateness_command
from topsync.operate.coverage_command import CoverageAskedError
from topsync.operate.gap_waits import Wait
from topsync.operate.seller_commands import SellerOperationError
from topsync.store import api_calls, call_budget, coverage, gaps, sellers, visibility
from topsync.store.api_calls import Call
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool

NOW = platform_time.floor_to_second(datetime.now(UTC))
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CALENDAR = calendar_of(CoverageSettings(visibility_allowance_seconds=600))
OLD = Gap(7, SELLER, NOW - 2 * HOUR, NOW - HOUR, "lost", NOW - 2 * HOUR, None)


@pytest.fixture
async def pool(migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(budget_command, "BETWEEN_SECONDS", 0.01)
    async with emptied(migrated_database_url) as pool:
        yield pool


@pytest.fixture
async def with_gaps(pool: Pool) -> Pool:
    """A seller with a hole, a replay, an open gap and a closed one; another that is paused with a gap."""
    async with pool.acquire() as connection:
        for start, end in ((3 * DAY, DAY), (20 * HOUR, 15 * MINUTE)):
            await coverage.prove(connection, SELLER, Span(NOW - start, NOW - end))
        await gaps.open_for_one(
            connection, SELLER, began=NOW - 30 * HOUR, ended=NOW - 29 * HOUR, cause="the channel closed"
        )
        await connection.execute("update gaps set closed_at = $1", NOW - 28 * HOUR)
        for seller_id in (SELLER, SELLER + 1):
            await gaps.open_for_one(
                connection, seller_id, began=NOW - 24 * HOUR, ended=NOW - 21 * HOUR, cause="away"
            )
    window = PulledWindow(
        SELLER, Span(NOW - 50 * HOUR, NOW - 48 * HOUR), "operator", "replay x", NOW - HOUR, 3, 1, None
    )
    await coverage.record(pool, [window])
    await sellers.pause(pool, SELLER + 1, "a holiday")
    return pool


async def test_a_sellers_time_is_drawn_with_what_is_missing_in_words_above_it(
    with_gaps: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await coverage_command.show("demo_one", None, None, as_json=False)
    output = capsys.readouterr().out
    lines = output.splitlines()
    until = platform_time.format(NOW - DAY)
    said = " ".join(output.split())
    assert said.startswith(f"demo_one ({SELLER}) is new, and complete up to {until} (GMT+8), 1 d")
    assert f"not proven: {until} to {platform_time.format(NOW - 20 * HOUR)}" in said
    assert f"open gap: {platform_time.format(NOW - 24 * HOUR)} to " in said
    drawn = [line for line in lines if line[:5] == platform_time.format(NOW - DAY)[5:10]]
    assert "G" in drawn[0] + lines[lines.index(drawn[0]) + 1]
    assert max(map(len, lines)) <= 80
    legend = {line[0] for line in lines if line[1:3] == "  " and line[0] != " "}
    assert legend >= {"=", "o", "G", "R", "."}


async def test_a_sellers_time_for_machines_has_every_span(
    with_gaps: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await coverage_command.show(str(SELLER), None, None, as_json=True)
    found = orjson.loads(capsys.readouterr().out)
    assert (len(found["proven"]), len(found["holes"]), len(found["gaps"]), len(found["replayed"])) == (
        2,
        1,
        2,
        1,
    )
    assert datetime.fromisoformat(found["complete_until"]) == NOW - DAY
    assert [gap["closed_at"] is None for gap in found["gaps"]] == [True, False]


async def test_before_a_bulk_start_nothing_is_proven_and_impossible_times_are_refused(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await coverage_command.show("demo_two", None, None, as_json=False)
    assert "has no finished bulk start: nothing of it is proven" in capsys.readouterr().out
    day = NOW.replace(tzinfo=None)
    for start, end, why in ((day, day - DAY, "--from must be"), (day - 400 * DAY, day, "at most 366 days")):
        with pytest.raises(CoverageAskedError, match=why):
            await coverage_command.show("demo_two", start, end, as_json=False)
    with pytest.raises(SellerOperationError):
        await coverage_command.show("nobody", None, None, as_json=False)


async def test_gaps_are_listed_the_worst_first_with_what_each_waits_for(
    with_gaps: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await gaps_command.show(seller=None, days=3, limit=10, as_json=False)
    output = capsys.readouterr().out
    rows = [line for line in output.splitlines() if line.startswith("22")]
    assert [line.split()[0] for line in rows] == [str(SELLER + 1), str(SELLER), str(SELLER)]
    assert f"! a gap waits for its seller, who is paused: `topsync sellers resume {SELLER + 1}`" in output
    assert "Closed in the last 3 days" in output
    await gaps_command.show(seller=None, days=1, limit=1, as_json=False)
    output = capsys.readouterr().out
    assert "and 1 other open gaps" in output
    assert "Closed" not in output
    await gaps_command.show(seller="demo_one", days=3, limit=10, as_json=True)
    found = orjson.loads(capsys.readouterr().out)
    assert [(each["seller_id"], each["waits_for"]) for each in found["open"]] == [(str(SELLER), "pull")]
    assert (len(found["closed"]), found["open_not_shown"]) == (1, 0)


async def test_where_there_is_no_gap_it_says_so(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    await gaps_command.show(seller=None, days=1, limit=10, as_json=False)
    assert capsys.readouterr().out == "no gap is open\n"


@pytest.mark.parametrize(
    ("gap", "wait"),
    [
        (Gap(7, SELLER, NOW - HOUR, None, "x", NOW, None), Wait.PUSH),
        (OLD, Wait.PULL),
        (Gap(7, SELLER, NOW - HOUR, NOW - 5 * MINUTE, "x", NOW, NOW - 4 * MINUTE), Wait.LISTS),
        (Gap(7, SELLER, NOW - HOUR, NOW - 15 * MINUTE, "x", NOW, NOW - 14 * MINUTE), Wait.PULL),
        (Gap(7, SELLER, NOW - HOUR, NOW - 15 * MINUTE, "x", NOW, NOW - 2 * MINUTE), Wait.PROOF),
    ],
)
def test_what_a_gap_waits_for_follows_the_reconcilers_plan(gap: Gap, wait: Wait) -> None:
    found = gap_waits.of(gap, None, CALENDAR, retry=MINUTE, now=NOW)
    assert found.wait is wait


async def test_the_budget_says_who_used_it_and_what_is_left(
    pool: Pool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPSYNC_CALLS_PER_DAY", "1000")
    monkeypatch.setenv("TOPSYNC_LIVE_RESERVE_CALLS", "100")
    day = platform_time.day_of(NOW)
    detail, lists = "taobao.trade.fullinfo.get", "taobao.trades.sold.increment.get"
    await api_calls.add(
        pool,
        Counter(
            {
                Call(day, detail, "live", "ok"): 70,
                Call(day, detail, "operator", "ok"): 20,
                Call(day, detail, "live", "limited"): 3,
                Call(day, lists, "sweep", "ok"): 5,
                Call(day - DAY, lists, "sweep", "ok"): 900,
            }
        ),
        service="enrich",
    )
    await api_calls.add(pool, Counter({Call(day, lists, "gap", "ok"): 6}), service="reconcile")
    await call_budget.ban(pool, detail, 600)
    await pool.execute(
        "insert into call_budget (scope, day, spent) values ('app', $1, 98) "
        "on conflict (scope) do update set day = excluded.day, spent = excluded.spent",
        day,
    )
    await budget_command.show(as_json=False)
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert "902, the last 100 for live changes" in output
    assert f"closed: {detail}" in output
    for row in (
        r"live +goes first +0\.0 +73 +3",
        r"operator +5% +0\.0 +20 +0",
        rf"{re.escape(detail)} +93 +3",
        rf"{re.escape(lists)} +11 +0",
        r"enrich +98 +3 +73 live, 20 operator, 5 sweep",
        r"reconcile +6 +0 +6 gap",
    ):
        assert re.search(f"^{row}", output, re.MULTILINE), row

    await budget_command.show(as_json=True)
    found = orjson.loads(capsys.readouterr().out)
    assert (found["left_today"], found["leased_today"], found["live_reserve"]) == (902, 98, 100)
    assert [ban["scope"] for ban in found["bans"]] == [detail]
    assert {"api": lists, "priority": "sweep", "outcome": "ok", "calls": 5} in found["calls_today"]
    of_enrich = {"service": "enrich", "priority": "live", "calls": 73, "failed": 3}
    assert found["services_today"][0] == of_enrich
    assert set(found["now_per_second"]) == {"live", "gap", "operator", "bootstrap", "sweep"}


async def test_an_empty_budget_is_shown_as_well(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    await budget_command.show(as_json=False)
    output = capsys.readouterr().out
    assert "no limit is set" in output
    assert "By API" not in output


def test_within_is_the_end_of_the_step_that_holds_the_share_and_never_less() -> None:
    hour, later = NOW - 5 * HOUR, NOW - 4 * HOUR
    late = timedelta(seconds=45)
    found = lateness_command.by_hour(
        {
            (hour, 0): ArrivalCounts(shown=50),
            (hour, 30): ArrivalCounts(shown=49, lacked=2, longest=late),
            (hour, 60): ArrivalCounts(shown=1),
            (later, BUCKETS[-1]): ArrivalCounts(shown=1),
        }
    )
    assert [(each.hour, each.changes, each.late, each.longest) for each in found] == [
        (later, 1, 0, timedelta(0)),
        (hour, 100, 2, late),
    ]
    assert [found[1].within(share) for share in (0.5, 0.51, 0.99, 1.0)] == [1, 60, 60, 120]
    assert found[0].within(0.5) is None, "longer than is counted"


async def test_lateness_shows_each_hour_and_what_was_later_than_is_waited_for(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await lateness_command.show(hours=24, as_json=False)
    assert "No list has shown a change in the last 24 h." in capsys.readouterr().out
    measured = Measured()
    changed_at = datetime.now(UTC) - 3 * HOUR
    for _ in range(1200):
        measured.count_shown(changed_at, timedelta(seconds=20))
    for lacked_after in (40, 2000):
        lacked_at = changed_at + timedelta(seconds=lacked_after + 1)
        measured.add_late(LateArrival(7, changed_at, lacked_at, lacked_at + MINUTE, 10 * MINUTE))
    async with pool.acquire() as connection:
        await visibility.count(connection, measured)
    await lateness_command.show(hours=24, as_json=False)
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    said = " ".join(output.split())
    assert said.startswith("Changes count as shown by the lists after 10 min (usual).")
    hour = platform_time.format(changed_at)[:13]
    assert f"{hour}:00 1,200 30 s 30 s 2 33 min 20 s, too late" in said
    await lateness_command.show(hours=3, as_json=True)
    assert orjson.loads(capsys.readouterr().out)["hours"] == [], "the hour is the fourth"
    await lateness_command.show(hours=4, as_json=True)
    assert orjson.loads(capsys.readouterr().out)["hours"] == [
        {
            "hour": f"{changed_at:%Y-%m-%dT%H}:00:00+00:00",
            "changes": 1200,
            "half_within_seconds": 30,
            "most_within_seconds": 30,
            "late": 2,
            "surely_by_seconds": 2000.0,
            "shown": [{"seconds": 20, "changes": 1200}],
        }
    ]
