"""The learned allowance: no claim rests on less than it, and what did is taken back (I4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.databases import SELLER, at, emptied, until_a_lock_is_awaited
from topsync.model.arrivals import LastLists, LateArrival, ListedPart, Measured
from topsync.model.kind import Kind
from topsync.model.learned_allowance import LearnedAllowance, LearningRules
from topsync.model.span import Span
from topsync.store import coverage, erasures, visibility
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool
from topsync.store.visibility import ArrivalEvidence

ALLOWANCE = 10
LATE = LateArrival(7, at(30), at(55), at(60), timedelta(seconds=ALLOWANCE))
EVIDENCE = ArrivalEvidence(SELLER, Kind.ORDER, LATE)


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url, connections=6) as pool:
        yield pool


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def window(start: float, pulled_at: float, *, lists: Kind = Kind.ORDER, seller: int = SELLER) -> PulledWindow:
    """Of a pull up to now that rests on `ALLOWANCE`."""
    proven_to = pulled_at - ALLOWANCE
    span = Span(at(start), at(pulled_at + 60))
    proven = at(proven_to) if proven_to > start else None
    return PulledWindow(seller, span, "sweep", None, at(pulled_at), 1, 0, proven, lists)


async def raise_to(pool: Pool, allowance: float, *, since: float = 1e6) -> int:
    async with pool.acquire() as connection, connection.transaction():
        before = await visibility.locked(connection)
        taken_of = await visibility.take_back(connection, at(since), seconds(allowance))
        await visibility.change(
            connection,
            before,
            seconds(allowance),
            at=at(100),
            evidence=EVIDENCE,
            arrivals=1,
            taken_from=at(since),
            taken_of=taken_of,
        )
        return taken_of


async def proven(pool: Pool, seller: int = SELLER) -> set[int]:
    found = (await coverage.proven(pool))[seller]
    return {second for second in range(-100, 400) if _holds(found, second)}


def _holds(spans: Iterable[Span], second: float) -> bool:
    return any(span.start <= at(second) < span.end for span in spans)


async def test_a_claim_never_rests_on_less_than_what_was_learnt_before_it_was_written(pool: Pool) -> None:
    """The process that writes it listed, and computed what it proves, before the allowance was raised."""
    listed_before = [window(0, 100), window(95, 100), window(0, 100, lists=Kind.REFUND)]
    await raise_to(pool, 30)
    written = await coverage.record(pool, listed_before)
    assert [each.proven_to for each in written] == [at(70), None, at(70)]
    assert await proven(pool) == set(range(70))
    assert await pool.fetchval("select max(proven_to) from windows") == at(70)


async def test_what_was_learnt_holds_up_to_the_most_and_not_where_learning_is_off(pool: Pool) -> None:
    await raise_to(pool, 30)
    (bounded,) = await coverage.record(
        pool, [window(0, 100)], learning=LearningRules(is_on=True, most=seconds(20))
    )
    (free,) = await coverage.record(
        pool, [window(0, 100)], learning=LearningRules(is_on=False, most=seconds(20))
    )
    assert (bounded.proven_to, free.proven_to) == (at(80), at(90))


async def test_a_claim_waits_for_a_raising_that_is_under_way_and_rests_on_it(pool: Pool) -> None:
    async with pool.acquire() as raising:
        async with raising.transaction():
            before = await visibility.locked(raising)
            claim = asyncio.create_task(coverage.record(pool, [window(0, 100)]))
            await until_a_lock_is_awaited(pool)
            await visibility.change(raising, before, seconds(50), at=at(100))
        await claim
    assert await proven(pool) == set(range(50))


async def test_a_raising_waits_for_a_claim_that_is_under_way_and_takes_it_back(pool: Pool) -> None:
    async with pool.acquire() as claiming:
        async with claiming.transaction():
            await visibility.shared(claiming)
            raising = asyncio.create_task(raise_to(pool, 50, since=20))
            await until_a_lock_is_awaited(pool)
            await coverage.prove(claiming, SELLER, Span(at(0), at(90)))
        assert await raising == 1
    assert await proven(pool) == set(range(20))


async def test_a_process_that_dies_before_the_end_has_neither_raised_nor_taken_anything_back(
    pool: Pool,
) -> None:
    await coverage.record(pool, [window(0, 100)])
    connection = await pool.acquire()
    await connection.execute("begin")
    before = await visibility.locked(connection)
    await visibility.change(connection, before, seconds(50), at=at(100))
    assert await visibility.take_back(connection, at(20), seconds(50))
    connection.terminate()
    await pool.release(connection)
    assert await visibility.learned(pool) == LearnedAllowance()
    assert await proven(pool) == set(range(90))
    assert await visibility.unnotified(pool, limit=10) == []


@given(
    pulls=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 100)), min_size=1, max_size=6),
    allowance=st.integers(ALLOWANCE, 80),
    since=st.integers(-20, 120),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_of_what_is_claimed_since_a_moment_only_that_stays_which_a_pull_proves_by_the_new_allowance(
    pool: Pool, pulls: list[tuple[int, int]], allowance: int, since: int
) -> None:
    await pool.execute("truncate coverage, windows, visibility, visibility_changes")
    await pool.execute("insert into visibility default values")
    windows = [window(start, start + length) for start, length in pulls]
    await coverage.record(pool, [*windows, window(0, 300, lists=Kind.REFUND)])
    await coverage.record(pool, [window(0, 100, seller=SELLER + 1)])
    before = await proven(pool)
    taken_of = await raise_to(pool, allowance, since=since)
    sound = {
        second
        for each in windows
        for second in range(400)
        if each.span.start <= at(second) < each.pulled_at - seconds(allowance)
    }
    first = min(before, default=None)
    expected = {second for second in before if second < since or second in sound or second == first}
    after = await proven(pool)
    assert after == expected
    others = set(range(90))
    assert await proven(pool, SELLER + 1) == {
        second for second in others if second < since or second < 100 - allowance or second == 0
    }
    changed = (after != before) + (await proven(pool, SELLER + 1) != others)
    assert taken_of == changed
    assert await raise_to(pool, allowance, since=since) == 0, "idempotent"


async def test_a_seller_of_whom_all_is_taken_back_still_counts_as_started(pool: Pool) -> None:
    await coverage.record(pool, [window(0, 100)])
    await raise_to(pool, 3600, since=-1000)
    assert await proven(pool) == {0}


async def test_each_change_is_noted_until_a_notification_tells_of_it(pool: Pool) -> None:
    await coverage.record(pool, [window(0, 100)])
    await raise_to(pool, 50, since=20)
    (raised,) = await visibility.unnotified(pool, limit=10)
    assert (raised.before, raised.allowance) == (seconds(0), seconds(50))
    assert (raised.seller_id, raised.kind, raised.object_id) == (SELLER, Kind.ORDER, 7)
    assert (raised.modified, raised.lacked_at, raised.shown_at) == (at(30), at(55), at(60))
    assert (raised.taken_from, raised.taken_of) == (at(20), 1)
    assert await visibility.last_raising(pool) == raised
    await visibility.mark_notified(pool, [raised.id])
    assert await visibility.unnotified(pool, limit=10) == []
    learned = await visibility.learned(pool)
    assert learned == LearnedAllowance(seconds(50), at(100), at(100))


async def test_a_raising_names_nothing_of_a_seller_that_is_erased(pool: Pool) -> None:
    await erasures.begin(pool, SELLER)
    await raise_to(pool, 50)
    (raised,) = await visibility.unnotified(pool, limit=10)
    assert (raised.seller_id, raised.object_id, raised.allowance) == (None, None, seconds(50))


async def test_since_when_something_is_learnt_stays_until_nothing_is(pool: Pool) -> None:
    await raise_to(pool, 50)
    for allowance, since in ((70, at(100)), (60, at(100)), (0, None), (20, at(300))):
        async with pool.acquire() as connection, connection.transaction():
            before = await visibility.locked(connection)
            await visibility.change(connection, before, seconds(allowance), at=at(300))
        assert (await visibility.learned(pool)).since == since


async def test_what_lists_have_shown_is_remembered_by_seller_and_list_until_the_seller_is_erased(
    pool: Pool,
) -> None:
    lists = LastLists([ListedPart(Span(at(0), at(9)), at(10), seconds(5))], {1: at(3)}, {2: at(4)})
    async with pool.acquire() as connection:
        for _ in range(2):
            await visibility.remember(connection, SELLER, Kind.ORDER, lists)
        assert await visibility.last_lists(connection, SELLER, Kind.ORDER) == lists
        assert await visibility.last_lists(connection, SELLER, Kind.REFUND) == LastLists()
        await erasures.begin(pool, SELLER)
        await visibility.remember(connection, SELLER, Kind.ORDER, LastLists())
        assert await visibility.last_lists(connection, SELLER, Kind.ORDER) == lists


async def test_the_histogram_adds_up_what_all_processes_measure(pool: Pool) -> None:
    measured = Measured()
    measured.count_shown(at(30), seconds(30))
    measured.add_late(LATE)
    async with pool.acquire() as connection:
        for _ in range(2):
            await visibility.count(connection, measured)
        await visibility.count(connection, Measured())
    found = await visibility.histogram(pool, at(-7200))
    assert {key: (counts.shown, counts.lacked) for key, counts in found.items()} == {
        (at(0), 20): (0, 2),
        (at(0), 30): (2, 0),
    }
    assert await visibility.longest(pool, at(-7200)) == LATE.at_least
    assert await visibility.longest(pool, at(7200)) == seconds(0)
