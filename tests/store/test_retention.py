"""What is too old goes, in small pieces; what something still needs stays, and windows leave their sums."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.databases import SELLER, at, emptied, until_a_lock_is_awaited
from topsync.model.kind import Kind
from topsync.model.scheme import Scheme
from topsync.model.span import Span
from topsync.store import (
    api_calls,
    coverage,
    erasures,
    gaps,
    order_facts,
    push_connections,
    replay_jobs,
    retention,
)
from topsync.store.api_calls import Call
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool
from topsync.store.push_connections import PushConnection
from topsync.store.replay_jobs import AskedBy, ReplayState, WantedReplay
from topsync.store.tables import GOING

OTHER = SELLER + 1
TID = 4000000000000000101
DAY_SECONDS = 86400.0
EVERYTHING = at(1000 * DAY_SECONDS)

TOLD = """
select
    seller_id, day, lists, source, sum(windows)::bigint as windows, sum(proving)::bigint as proving,
    sum(listed)::bigint as listed, sum(hinted)::bigint as hinted, range_agg(pulled) as pulled,
    range_agg(proven) as proven, min(first_pulled_at) as first_pulled_at,
    max(last_pulled_at) as last_pulled_at
from (
    select
        seller_id, (pulled_at at time zone interval '8 hours')::date as day, lists, source, 1 as windows,
        case when proven_to is null then 0 else 1 end as proving, listed, hinted,
        tstzmultirange(span) as pulled,
        case when proven_to > lower(span) then tstzmultirange(tstzrange(lower(span), proven_to))
            else '{}' end as proven,
        pulled_at as first_pulled_at, pulled_at as last_pulled_at
    from windows
    union all
    select
        seller_id, day, lists, source, windows, proving, listed, hinted, pulled, proven, first_pulled_at,
        last_pulled_at
    from window_days
) as each
group by 1, 2, 3, 4
order by 1, 2, 3, 4
"""
"""By seller, day, list and source, what both tables tell together: reckoned in another way."""


def window(
    pulled: float,
    *,
    length: float = 600,
    proven: float | None = None,
    seller_id: int = SELLER,
    source: str = "sweep",
    lists: Kind = Kind.ORDER,
    listed: int = 3,
    hinted: int = 1,
) -> PulledWindow:
    """Pulled at a second, of the time before; proven up to `proven` seconds before its end."""
    span = Span(at(pulled - length), at(pulled))
    proven_to = None if proven is None else at(pulled - proven)
    return PulledWindow(seller_id, span, source, "why", at(pulled), listed, hinted, proven_to, lists)


async def left(pool: Pool, table: str) -> int:
    return int(await pool.fetchval(f"select count(*) from {table}"))


windows_of_days = st.builds(
    window,
    st.integers(0, 4 * 86400),
    length=st.sampled_from([4.0, 600.0, 90000.0]),
    proven=st.sampled_from([None, 0.0, 2.0, 4.0, 700.0]),
    seller_id=st.sampled_from([SELLER, OTHER]),
    source=st.sampled_from(["sweep", "gap", "operator"]),
    lists=st.sampled_from(list(Kind)),
    listed=st.integers(0, 100),
    hinted=st.integers(0, 100),
).filter(lambda made: made.proven_to is None or made.proven_to > made.span.start or not made.lists.leads)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    written=st.lists(windows_of_days, max_size=25),
    rounds=st.lists(st.tuples(st.integers(0, 5 * 86400), st.integers(1, 9)), max_size=8),
)
def test_windows_and_their_sums_tell_the_same_after_any_rounds(
    migrated_database_url: str, written: Sequence[PulledWindow], rounds: Sequence[tuple[int, int]]
) -> None:
    async def play() -> None:
        async with emptied(migrated_database_url) as pool:
            half = len(written) // 2
            await coverage.record(pool, written[:half])
            for place, (before, limit) in enumerate(rounds):
                if place == len(rounds) // 2:
                    await coverage.record(pool, written[half:])
                told = await pool.fetch(TOLD)
                there = await left(pool, "windows")
                # Two processes at once, as after a change of leaders.
                gone = await asyncio.gather(
                    *(retention.delete(pool, "windows", before=at(before), limit=limit) for _ in range(2))
                )
                assert await pool.fetch(TOLD) == told
                assert await left(pool, "windows") == there - sum(gone)
                assert max(gone) <= limit

    asyncio.run(play())


async def test_the_oldest_windows_go_first_and_none_that_is_younger(pool: Pool) -> None:
    await coverage.record(pool, [window(second, proven=0) for second in (50, 10, 30, 70, 40)])
    assert await retention.delete(pool, "windows", before=at(60), limit=2) == 2
    kept = await pool.fetch("select pulled_at from windows order by pulled_at")
    assert [row["pulled_at"] for row in kept] == [at(40), at(50), at(70)]
    assert await retention.oldest(pool, "windows") == at(40)
    assert await retention.delete(pool, "windows", before=at(60), limit=10) == 2
    assert await retention.delete(pool, "windows", before=at(60), limit=10) == 0
    assert await left(pool, "windows") == 1


async def test_a_day_is_the_platforms(pool: Pool) -> None:
    """`at(0)` is 10:00 in China: fourteen hours later begins the next day."""
    midnight = 14 * 3600
    await coverage.record(pool, [window(midnight - 1), window(midnight)])
    await retention.delete(pool, "windows", before=EVERYTHING, limit=10)
    days = await pool.fetch("select day::text, windows from window_days order by day")
    assert [tuple(row) for row in days] == [("2025-11-20", 1), ("2025-11-21", 1)]


async def test_of_a_seller_that_is_erased_nothing_is_summed_up(pool: Pool) -> None:
    await coverage.record(pool, [window(10), window(20, seller_id=OTHER)])
    await erasures.begin(pool, SELLER)
    assert await retention.delete(pool, "windows", before=EVERYTHING, limit=10) == 1
    found = await pool.fetch("select seller_id from window_days")
    assert [row["seller_id"] for row in found] == [OTHER]


async def test_an_erasure_that_comes_while_windows_are_summed_up_finds_the_sums(pool: Pool) -> None:
    """The seller's lock is held to the end of the piece: so what the erasure clears is all there is."""
    await coverage.record(pool, [window(10)])
    async with pool.acquire() as connection, connection.transaction():
        await retention.delete(connection, "windows", before=EVERYTHING, limit=10)  # type: ignore[arg-type]
        erasing = asyncio.create_task(erasures.begin(pool, SELLER))
        await until_a_lock_is_awaited(pool)
    await erasing
    async for _ in erasures.clear(pool, SELLER):
        pass
    assert await left(pool, "window_days") == 0


async def test_what_the_former_release_left_of_an_erased_seller_goes(pool: Pool) -> None:
    """It clears what it knows: the sums are not among it."""
    await coverage.record(pool, [window(10), window(10, seller_id=OTHER)])
    await retention.delete(pool, "windows", before=EVERYTHING, limit=10)
    await pool.execute(
        "update sellers set state = 'erased', session_cipher = '' where seller_id = $1", SELLER
    )
    assert await retention.delete(pool, "window_days", before=at(0), limit=10) == 1
    assert [row["seller_id"] for row in await pool.fetch("select seller_id from window_days")] == [OTHER]


async def test_an_orders_story_goes_on_from_the_days_sums(pool: Pool) -> None:
    of_change = at(DAY_SECONDS)
    sweeps = [
        window(DAY_SECONDS + second, proven=60, listed=2) for second in (-300, 300, 600, 2 * DAY_SECONDS)
    ]
    await coverage.record(pool, [*sweeps, window(DAY_SECONDS + 60, lists=Kind.REFUND)])

    async def told() -> order_facts.AroundOrder:
        return await order_facts.around(pool, TID, SELLER, modified=of_change, since=at(0))

    before = await told()
    assert (len(before.windows), before.window_days) == (2, ())
    while await retention.delete(pool, "windows", before=EVERYTHING, limit=2):
        pass
    after = await told()
    assert after.windows == ()
    (day,) = after.window_days
    assert (day.source, day.windows, day.listed, day.proves) == ("sweep", 3, 6, True)
    assert day.start <= of_change <= day.end
    assert day.last_pulled_at == at(DAY_SECONDS + 600)
    nothing = await order_facts.around(pool, TID, OTHER, modified=of_change, since=at(0))
    assert nothing.window_days == ()


async def test_sums_go_when_their_own_time_has_come(pool: Pool) -> None:
    await coverage.record(pool, [window(0), window(2 * DAY_SECONDS)])
    await retention.delete(pool, "windows", before=EVERYTHING, limit=10)
    assert await retention.delete(pool, "window_days", before=at(DAY_SECONDS), limit=10) == 1
    assert [str(row["day"]) for row in await pool.fetch("select day from window_days")] == ["2025-11-22"]


async def lose(pool: Pool, number: int, lost_at: float) -> None:
    """A connection that was lost, and the gaps that it opened."""
    lost = PushConnection(
        UUID(int=number), "default", at(lost_at - 60), at(lost_at - 1), at(lost_at), "lost", None
    )
    await push_connections.write(pool, lost)
    async with pool.acquire() as connection, connection.transaction():
        for found in await push_connections.lost(connection, silent_for=timedelta(days=1)):
            await gaps.open_for_all(connection, found, Scheme.AUTO, now=at(lost_at))
            await push_connections.close_stale(connection, found.id)


async def test_open_gaps_stay_however_old_and_with_them_their_connections(pool: Pool) -> None:
    await lose(pool, 1, 10)
    await lose(pool, 2, 20)
    await lose(pool, 3, 30)
    for gap in await gaps.open_gaps(pool):
        if gap.began == at(9) or (gap.began == at(19) and gap.seller_id == SELLER):
            await gaps.close(pool, [gap], at(40))
    for table, gone in (("gaps", 3), ("push_connections", 1)):
        assert await retention.delete(pool, table, before=EVERYTHING, limit=10) == gone
    assert {gap.began for gap in await gaps.open_gaps(pool)} == {at(19), at(29)}
    kept = await pool.fetch("select id from push_connections order by lost_at")
    assert [row["id"].int for row in kept] == [2, 3]


async def test_the_last_connection_stays_and_those_that_have_still_to_open_gaps(pool: Pool) -> None:
    await lose(pool, 1, 10)
    await lose(pool, 3, 30)
    unopened = PushConnection(UUID(int=2), "default", at(1), at(2), at(3), "lost", None)
    await push_connections.write(pool, unopened)
    up = PushConnection(UUID(int=4), "default", at(1), at(4))
    await push_connections.write(pool, up)
    for gap in await gaps.open_gaps(pool):
        await gaps.close(pool, [gap], at(40))
    await retention.delete(pool, "gaps", before=EVERYTHING, limit=10)
    assert await retention.delete(pool, "push_connections", before=EVERYTHING, limit=10) == 1
    kept = await pool.fetch("select id from push_connections order by id")
    assert [row["id"].int for row in kept] == [2, 3, 4]
    last = await push_connections.last(pool)
    assert last is not None
    assert last.id.int == 3


async def test_jobs_under_way_stay_and_an_id_is_known_until_its_job_goes(pool: Pool) -> None:
    for number in range(3):
        wanted = WantedReplay.of_seller(f"job {number}", SELLER, at(0), at(60), dry_run=False)
        await replay_jobs.request(pool, wanted, AskedBy.SIGNAL)
    await replay_jobs.start(pool, "job 1")
    await replay_jobs.finish(pool, "job 2", ReplayState.DONE, {})
    now = await retention.now(pool)
    assert await retention.delete(pool, "replays", before=now - timedelta(days=1), limit=10) == 0
    assert await replay_jobs.get(pool, "job 2") is not None
    assert await retention.delete(pool, "replays", before=now + timedelta(days=1), limit=10) == 1
    assert {job.id for job in await replay_jobs.newest(pool, 10)} == {"job 0", "job 1"}


async def test_ended_republications_go_with_their_parts(pool: Pool) -> None:
    for number, ended in enumerate(("finished_at", "cancelled_at", "requested_at")):
        await pool.execute(
            f"insert into republications (id, topics, per_second, {ended}) values ($1, '{{orders}}', 1, $2)",
            str(number),
            at(0),
        )
        await pool.execute(
            "insert into republication_parts (id, topic, partition) values ($1, 'orders', 0)", str(number)
        )
    assert await retention.delete(pool, "republications", before=at(1), limit=10) == 2
    for table, key in (("republications", "id"), ("republication_parts", "id")):
        assert [row[key] for row in await pool.fetch(f"select {key} from {table}")] == ["2"]


async def test_warnings_of_the_present_session_stay(pool: Pool) -> None:
    for version in (1, 2):
        await pool.execute(
            "insert into session_warnings values ($1, $2, 7, $3)",
            SELLER,
            version,
            at(0),
        )
    await pool.execute("update sellers set session_version = 2 where seller_id = $1", SELLER)
    assert await retention.delete(pool, "session_warnings", before=at(1), limit=10) == 1
    assert await pool.fetchval("select session_version from session_warnings") == 2


async def test_counts_of_calls_go_by_the_platforms_day(pool: Pool) -> None:
    days = [at(number * DAY_SECONDS).date() for number in range(3)]
    await api_calls.add(pool, Counter({Call(day, "x", "live", "ok"): 1 for day in days}), service="enrich")
    for table in ("api_calls", "service_calls"):
        assert await retention.delete(pool, table, before=at(2 * DAY_SECONDS), limit=1) == 1
        assert await retention.delete(pool, table, before=at(2 * DAY_SECONDS), limit=10) == 1
        assert [row["day"] for row in await pool.fetch(f"select day from {table}")] == days[2:]


async def test_an_empty_database_has_nothing_old(pool: Pool) -> None:
    ages: Mapping[str, datetime | None] = {table: await retention.oldest(pool, table) for table in GOING}
    assert set(ages.values()) == {None}
    for table in GOING:
        assert await retention.delete(pool, table, before=EVERYTHING, limit=10) == 0


async def test_rows_that_somebody_holds_are_left_and_nobody_waits(pool: Pool) -> None:
    await coverage.record(pool, [window(10), window(20)])
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select from windows where pulled_at = $1 for update", at(10))
        assert await retention.delete(pool, "windows", before=EVERYTHING, limit=10) == 1
    assert await retention.oldest(pool, "windows") == at(10)


@pytest.mark.parametrize("table", GOING)
async def test_each_piece_has_its_bound(pool: Pool, table: str) -> None:
    """Of six rows that are too old, a piece of four takes four."""
    insert = MANY_OLD[table]
    await pool.execute(insert)
    assert await retention.delete(pool, table, before=EVERYTHING, limit=4) == 4
    assert await retention.delete(pool, table, before=EVERYTHING, limit=4) == 2


MANY_OLD: Mapping[str, str] = {
    "anomalies": "insert into anomalies (kind, name, seen, last_at) "
    "select 'unknown_field', n::text, 1, '2025-01-01' from generate_series(1, 6) as n",
    "detail_hours": "insert into detail_hours "
    "select timestamptz '2025-01-01' + make_interval(hours => n), 1, 0 from generate_series(1, 6) as n",
    "session_warnings": f"insert into session_warnings select {SELLER}, 0, n, '2025-01-01' from "
    "generate_series(1, 6) as n",
    "windows": "insert into windows (seller_id, span, source, pulled_at, listed, hinted, lists) "
    f"select {SELLER}, '[2025-01-01,2025-01-02]', 'sweep', '2025-01-02', 0, 0, 'orders' "
    "from generate_series(1, 6)",
    "window_days": f"insert into window_days select {SELLER}, '2025-01-01', 'orders', n::text, 1, 0, 0, 0, "
    "'{}', '{}', now(), now() from generate_series(1, 6) as n",
    "gaps": "insert into gaps (seller_id, began, cause, opened_at, closed_at) "
    f"select {SELLER}, '2025-01-01', 'x', '2025-01-01', '2025-01-01' from generate_series(1, 6)",
    "push_connections": "insert into push_connections "
    "(id, channel_group, connected_at, last_proof_at, lost_at, gap_opened) "
    "select gen_random_uuid(), 'x', '2025-01-01', '2025-01-01', "
    "timestamptz '2025-01-01', true from generate_series(1, 6) "
    "union all select gen_random_uuid(), 'x', now(), now(), null, false",
    "replays": "insert into replays (id, seller_id, span, dry_run, state, finished_at) "
    f"select n::text, {SELLER}, 'empty', false, 'done', '2025-01-01' from generate_series(1, 6) as n",
    "republications": "insert into republications (id, topics, per_second, finished_at) "
    "select n::text, '{orders}', 1, '2025-01-01' from generate_series(1, 6) as n",
    "differences": "with of as (insert into reports (id, began_at, ended_at) "
    "values ('old', '2025-01-01', '2025-01-01')) "
    f"insert into differences select 'old', 'order', n, n, {SELLER}, '2025-01-01', 'missing', '', 'repaired' "
    "from generate_series(1, 6) as n",
    "reports": "insert into reports (id, began_at, ended_at) "
    "select n::text, '2025-01-01', '2025-01-01' from generate_series(1, 6) as n",
    "visibility_changes": "insert into visibility_changes (at, before, allowance, notified_at) "
    "select timestamptz '2025-01-01', interval '0', interval '0', now() from generate_series(1, 6) "
    "union all select timestamptz '2025-01-01', interval '0', interval '0', null",
    "arrivals": "insert into arrivals select '2025-01-01', n, 1, 1, '0' from generate_series(1, 6) as n",
    "api_calls": "insert into api_calls select '2025-01-01', n::text, 'live', 'ok', 1 "
    "from generate_series(1, 6) as n",
    "service_calls": "insert into service_calls select '2025-01-01', n::text, 'live', 1, 0 "
    "from generate_series(1, 6) as n",
}
