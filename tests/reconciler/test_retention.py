"""Rounds of retention: in pieces, at intervals, by the earlier clock; a stop in the middle loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from reconciler import retention as rounds
from reconciler.retention import Retention
from tests.store.databases import SELLER, at, emptied
from tests.support.eventually import eventually
from topsync.base import metrics
from topsync.base.clock import ServerClock
from topsync.model.retention import Period
from topsync.model.span import Span
from topsync.store import coverage, gaps, retention
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool

DAY = timedelta(days=1)
NOW = at(0) + 100 * DAY
"""The platform's time in these tests; the database's is later."""

FOR_EVER_SECONDS = 1e9


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool


def keeper(pool: Pool, *, now: datetime = NOW, piece_rows: int = 2) -> Retention:
    """Keeps everything for ten days, and sums of windows for ever; in pieces of two rows."""
    clock = ServerClock(lambda: 0.0)
    clock.observe(now, sent=0.0, received=0.0)
    kept = {**dict.fromkeys(Period, 10 * DAY), Period.WINDOW_SUMS: 10_000 * DAY}
    return Retention(pool, clock, kept, FOR_EVER_SECONDS, piece_rows=piece_rows)


async def pull(pool: Pool, *days_ago: float, before: datetime = NOW) -> None:
    windows = []
    for days in days_ago:
        end = before - days * DAY
        windows.append(PulledWindow(SELLER, Span(end - DAY, end), "sweep", None, end, 1, 0, end))
    await coverage.record(pool, windows)


async def pulled_days_ago(pool: Pool) -> list[int]:
    rows = await pool.fetch("select pulled_at from windows order by pulled_at desc")
    return [round((NOW - row["pulled_at"]) / DAY) for row in rows]


async def test_a_round_deletes_what_is_too_old_in_as_many_pieces_as_it_takes(pool: Pool) -> None:
    await pull(pool, *range(1, 20))
    counted = metrics.ROWS_DELETED.labels("windows")._value.get()
    await keeper(pool).round()
    assert await pulled_days_ago(pool) == list(range(1, 11))
    assert metrics.ROWS_DELETED.labels("windows")._value.get() - counted == 9
    assert await pool.fetchval("select sum(windows) from window_days") == 9
    oldest = metrics.OLDEST_ROW.labels("windows")._value.get()
    assert oldest == (NOW - 10 * DAY).timestamp()


async def test_nothing_is_deleted_again_before_the_interval_is_over(pool: Pool) -> None:
    keeping = keeper(pool)
    await keeping.round()
    await pull(pool, 11)
    await keeping.round()
    assert await pulled_days_ago(pool) == [11]
    await replace(keeping, interval_seconds=0.0, _not_before=float("-inf")).round()
    assert await pulled_days_ago(pool) == []


async def test_a_round_that_does_not_keep_up_says_so_and_the_next_goes_on_at_once(pool: Pool) -> None:
    """And no table waits for a larger one: each has its piece in each turn."""
    await pull(pool, *range(11, 20))
    async with pool.acquire() as connection:
        await gaps.open_for_one(connection, SELLER, began=NOW - 20 * DAY, ended=NOW - 20 * DAY, cause="x")
    (gap,) = await gaps.open_gaps(pool)
    await gaps.close(pool, [gap], NOW - 19 * DAY)
    behind = metrics.RETENTION_BEHIND._value.get()
    keeping = replace(keeper(pool), round_seconds=0.0)
    await keeping.round()
    assert (len(await pulled_days_ago(pool)), await pool.fetchval("select count(*) from gaps")) == (7, 0)
    assert metrics.RETENTION_BEHIND._value.get() == behind + 1
    for left in (5, 3, 1, 0):
        await keeping.round()
        assert len(await pulled_days_ago(pool)) == left
    assert metrics.RETENTION_BEHIND._value.get() == behind + 4


async def test_a_platform_whose_clock_jumps_ahead_has_nothing_deleted(pool: Pool) -> None:
    """What is deleted would not come back when the clock does: the database's time counts."""
    now = await retention.now(pool)
    await pull(pool, 9, before=now)
    await keeper(pool, now=now + 1000 * DAY).round()
    assert await pool.fetchval("select count(*) from windows") == 1


async def test_a_round_that_is_stopped_in_the_middle_has_summed_up_what_it_deleted(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pull(pool, *range(11, 31))
    monkeypatch.setattr(rounds, "pause_after", lambda _: FOR_EVER_SECONDS)
    round_ = asyncio.create_task(keeper(pool).round())
    await eventually(lambda: _is_summed_up(pool))
    round_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await round_
    told = "select (select count(*) from windows) + (select sum(windows) from window_days)"
    assert await pool.fetchval(told) == 20
    monkeypatch.undo()
    await keeper(pool).round()
    assert await pool.fetchval(told) == 20
    assert await pulled_days_ago(pool) == []


async def _is_summed_up(pool: Pool) -> bool:
    return bool(await pool.fetchval("select count(*) > 0 from window_days"))


async def test_two_reconcilers_that_both_believe_that_they_lead_share_the_work(pool: Pool) -> None:
    await pull(pool, *range(1, 60))
    await asyncio.gather(*(keeper(pool).round() for _ in range(3)))
    assert await pulled_days_ago(pool) == list(range(1, 11))
    assert await pool.fetchval("select sum(windows) from window_days") == 49


@pytest.mark.parametrize(("took", "pause"), [(0.0, 0.02), (0.5, 0.5), (3600.0, 10.0)])
def test_half_of_the_time_at_most_is_spent_deleting(took: float, pause: float) -> None:
    assert rounds.pause_after(took) == pause
