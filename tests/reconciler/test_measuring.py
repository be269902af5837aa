"""What is measured of the whole installation is right, bounded, and forgotten when another measures it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client import REGISTRY

from reconciler import measuring
from reconciler.duties import Forgetting
from reconciler.measuring import Lag, Measuring
from tests.store.databases import emptied
from topsync.base import live_calendar
from topsync.base.clock import ServerClock
from topsync.base.metric_catalogue import WORST
from topsync.model.priority import Priority
from topsync.store import call_budget
from topsync.store.database import Pool
from topsync.store.measures import CopyStanding
from topsync.stream.group_progress import TopicLag

NOW = datetime(2026, 11, 11, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MANY = 250


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    Measuring.forget()


async def two_behind() -> Lag:
    return {"changes": TopicLag(2, NOW - MINUTE), "snapshots": TopicLag(0, None)}


async def away() -> Lag:
    raise KafkaConnectionError("no broker")


def measurer(pool: Pool, *, interval_seconds: float = 0.0) -> Measuring:
    clock = ServerClock(lambda: 0.0)
    clock.observe(NOW, sent=0.0, received=0.0)
    usual = live_calendar.usual()
    return Measuring(
        pool=pool,
        clock=clock,
        rules=lambda _: replace(usual, limits=replace(usual.limits, calls_per_day=1000, live_reserve=100)),
        poll_interval=MINUTE,
        stored_within=5 * MINUTE,
        lag=two_behind,
        interval_seconds=interval_seconds,
    )


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def named(name: str) -> dict[str, float]:
    [family] = [family for family in REGISTRY.collect() if family.name == name]
    return {sample.labels["seller_id"]: sample.value for sample in family.samples}


async def add_sellers(pool: Pool, count: int, *, state: str = "live", first: int = 1) -> None:
    """Seller n is complete until n minutes ago, and has a hole where n is even."""
    await pool.execute(
        "insert into sellers (seller_id, nick, session_cipher, state) "
        "select n, n::text, '', $2 from generate_series($3::int, $3::int + $1::int - 1) as n",
        count,
        state,
        first,
    )
    await pool.execute(
        """
        insert into coverage (seller_id, proven)
        select n, tstzmultirange(tstzrange($1::timestamptz - interval '9 days', $1 - n * interval '1 minute'))
            + case when n % 2 = 0 then tstzmultirange(tstzrange($1 - interval '30 seconds', $1))
              else '{}'::tstzmultirange end
        from generate_series($2::int, $2::int + $3::int - 1) as n
        """,
        NOW,
        first,
        count,
    )


async def test_of_many_sellers_the_hundred_oldest_copies_are_named_and_the_others_counted(pool: Pool) -> None:
    await add_sellers(pool, MANY)
    await measurer(pool).round()
    by_age, by_holes = named("topsync_complete_until_age_seconds"), named("topsync_complete_until_holes")
    assert len(by_age) == WORST
    assert by_age[str(MANY)] == pytest.approx(MANY * 60, abs=5)
    assert str(MANY - WORST) not in by_age
    assert len(by_holes) == WORST
    assert set(by_holes.values()) == {1}
    assert shown("topsync_copies") == MANY
    others = "topsync_sellers_not_named"
    assert shown(others, metric="topsync_complete_until_age_seconds") == MANY - WORST
    assert shown(others, metric="topsync_complete_until_holes") == MANY // 2 - WORST


async def test_a_copy_that_stands_still_because_somebody_wants_it_is_not_measured(pool: Pool) -> None:
    await add_sellers(pool, 1, state="paused", first=1)
    await add_sellers(pool, 1, state="expired", first=2)
    await measurer(pool).round()
    assert set(named("topsync_complete_until_age_seconds")) == {"2"}


async def test_calls_bans_and_lag_are_shown_as_they_are(pool: Pool) -> None:
    await call_budget.ban(pool, "taobao.trade.fullinfo.get", 60)
    await measurer(pool).round()
    assert shown("topsync_calls_left_today", priority=Priority.LIVE.label) == 1000
    assert shown("topsync_calls_left_today", priority=Priority.SWEEP.label) == 900
    assert shown("topsync_calls_used_today", priority=Priority.LIVE.label) == 0
    assert shown("topsync_ban_left_seconds", scope="taobao.trade.fullinfo.get") == pytest.approx(60, abs=5)
    assert shown("topsync_lag_records", topic="changes") == 2
    assert shown("topsync_lag_seconds", topic="changes") == pytest.approx(60, abs=1)
    assert shown("topsync_lag_seconds", topic="snapshots") == 0
    assert shown("topsync_kafka_away") == 0


async def test_when_kafka_is_away_that_is_shown_and_no_lag_of_before(pool: Pool) -> None:
    measurer_ = measurer(pool)
    await measurer_.round()
    measurer_.lag = away
    await measurer_.round()
    assert shown("topsync_kafka_away") == 1
    assert shown("topsync_lag_records", topic="changes") is None
    assert shown("topsync_copies") == 0, "everything else is measured"


async def test_what_the_witness_and_the_last_night_found_is_shown(pool: Pool) -> None:
    await add_sellers(pool, 1)
    await pool.execute("insert into witness_findings values (3, 17, 99, 'revision 1 after 2', 'orders')")
    await pool.execute(
        "insert into reports (id, night, began_at, ended_at) values ('a', $1, $2, $2)", NOW, NOW
    )
    await pool.execute(
        "insert into differences (report, kind, id, tid, seller_id, day, what, note, outcome) "
        "values ('a', 'order', 1, 1, 1, $1, 'missing', '', 'left')",
        NOW.date(),
    )
    await measurer(pool).round()
    assert shown("topsync_witness_findings", topic="orders") == 1
    assert shown("topsync_last_comparison_differences", difference="missing", outcome="left") == 1
    assert shown("topsync_last_comparison_differences", difference="behind", outcome="left") == 0
    assert shown("topsync_last_comparison_timestamp_seconds") == NOW.timestamp()


async def test_it_measures_at_its_interval_and_not_at_each_look(pool: Pool) -> None:
    often = measurer(pool, interval_seconds=1e9)
    await often.round()
    await add_sellers(pool, 1)
    await often.round()
    assert shown("topsync_copies") == 0


async def test_whoever_no_longer_measures_shows_nothing(pool: Pool) -> None:
    await add_sellers(pool, 3)
    measures = measurer(pool)
    await measures.round()
    assert isinstance(measures, Forgetting)
    measures.forget()
    assert named("topsync_complete_until_age_seconds") == {}
    for name in ("topsync_copies", "topsync_measured_timestamp_seconds", "topsync_kafka_away"):
        assert shown(name) is None
    assert shown("topsync_lag_records", topic="changes") is None


def test_a_copy_is_late_two_pulls_after_what_can_be_proven_and_never_without_sweeps() -> None:
    usual = replace(live_calendar.usual(), visibility=10 * MINUTE, sweep_interval=5 * MINUTE)
    late = measuring.late_after(usual, poll_interval=MINUTE, stored_within=5 * MINUTE)
    assert late == 25 * MINUTE
    sale = replace(usual, visibility=30 * MINUTE)
    assert measuring.late_after(sale, poll_interval=MINUTE, stored_within=5 * MINUTE) == 45 * MINUTE
    off = replace(usual, sweep_interval=timedelta(0))
    assert measuring.late_after(off, poll_interval=MINUTE, stored_within=5 * MINUTE) is None


def test_a_clock_that_runs_behind_makes_no_age_below_nothing() -> None:
    assert measuring.ages([CopyStanding(1, NOW + MINUTE, 0)], now=NOW) == {1: 0.0}
