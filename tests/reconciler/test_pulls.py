"""The sellers that a process holds are pulled, each under its lease, as many at once as may be (I4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from prometheus_client import Gauge

from reconciler.membership import Membership
from reconciler.pulls import Pulls
from tests.reconciler.pulling import (
    PLACES,
    ROOM_ASIDE,
    SELLERS,
    SWEEP,
    FakePuller,
    puller_of_sellers,
    pulls_by,
)
from tests.store.databases import emptied
from tests.support.eventually import eventually
from topsync.base import metrics
from topsync.platforms.port import PlatformAwayError
from topsync.store import coverage, gaps, visibility
from topsync.store.database import Connection, Pool


@dataclass
class Process:
    """A reconciler without its loop."""

    pool: Pool
    connection: Connection
    membership: Membership
    pulls: Pulls
    puller: FakePuller

    async def hold(self) -> None:
        await self.membership.look(self.connection, lambda _: True)
        await self.pulls.hold(self.membership.sellers)

    async def look(self) -> None:
        await self.pulls.look()
        self.pulls.fill()

    async def until_pulled(self, number: int) -> None:
        async def are_pulled() -> bool:
            self.pulls.reap()
            self.pulls.fill()
            return len(self.puller.requests) == number

        await eventually(are_pulled)

    async def until_idle(self) -> None:
        async def is_idle() -> bool:
            self.pulls.reap()
            self.pulls.fill()
            return not len(self.pulls.under_way)

        await eventually(is_idle)


@pytest.fixture
async def process(migrated_database_url: str) -> AsyncIterator[Process]:
    async with emptied(migrated_database_url, connections=8) as pool, pool.acquire() as connection:
        puller, vault = await puller_of_sellers(pool)
        membership = Membership(pool, (), 0.0)
        process = Process(pool, connection, membership, pulls_by(puller, vault), puller)
        await process.hold()
        yield process
        await process.pulls.drop_all()
        await process.membership.leave()
        connection.terminate()


async def test_places_are_filled_as_pulls_end_without_another_look(process: Process) -> None:
    await process.look()
    await process.until_pulled(PLACES)
    process.puller.may_end.set()
    await process.until_idle()
    assert sorted(process.puller.pulled) == SELLERS
    await process.look()
    await process.until_idle()
    assert sorted(process.puller.pulled) == SELLERS, "each is due again only after the interval"


async def test_what_another_process_pulled_just_now_is_not_pulled_again_after_a_hand_over(
    process: Process,
) -> None:
    process.puller.may_end.set()
    await process.look()
    await process.until_idle()
    await process.membership.leave()
    await process.pulls.hold({})
    await process.hold()
    await process.look()
    await process.until_idle()
    assert len(process.puller.requests) == len(SELLERS)


async def test_a_pull_that_a_hand_over_interrupted_is_made_again_by_the_next_holder(process: Process) -> None:
    await process.look()
    await process.until_pulled(PLACES)
    interrupted = set(process.puller.pulled)
    await process.membership.leave()
    await process.pulls.hold({})
    assert not len(process.pulls.under_way)
    process.puller.may_end.set()
    await process.hold()
    await process.look()
    await process.until_idle()
    assert sorted(process.puller.pulled[PLACES:]) == SELLERS
    assert interrupted <= set(process.puller.pulled[PLACES:])


async def test_each_look_learns_the_visibility_allowance_that_others_have_raised(process: Process) -> None:
    learned: list[timedelta] = []
    process.pulls.learn = learned.append
    await process.pulls.look()
    async with process.connection.transaction():
        before = await visibility.locked(process.connection)
        await visibility.change(process.connection, before, SWEEP, at=process.puller.clock.now())
    await process.pulls.look()
    assert learned == [timedelta(0), SWEEP]


async def test_gaps_whose_lists_are_read_leave_their_places_to_others_while_they_wait_for_writers(
    process: Process,
) -> None:
    now = process.puller.clock.now()
    for seller in SELLERS:
        await gaps.open_for_one(
            process.connection, seller, began=now - timedelta(hours=2), ended=now, cause="test"
        )
    process.puller.lists_at_once = True
    await process.look()
    await process.until_pulled(PLACES + ROOM_ASIDE)
    await process.look()
    assert len(process.pulls.under_way) == PLACES + ROOM_ASIDE < len(SELLERS)
    process.puller.may_end.set()
    await process.until_idle()
    assert sorted(process.puller.pulled) == SELLERS
    assert not process.pulls.under_way.aside


async def test_sweeps_keep_their_places_while_they_wait(process: Process) -> None:
    process.puller.lists_at_once = True
    await process.look()
    await process.until_pulled(PLACES)
    await process.look()
    assert len(process.pulls.under_way) == PLACES


async def test_a_gap_is_pulled_first_and_closed_when_it_is_proven(process: Process) -> None:
    missed = SELLERS[3]
    now = process.puller.clock.now()
    await gaps.open_for_one(
        process.connection, missed, began=now - timedelta(hours=2), ended=now, cause="test"
    )
    process.puller.may_end.set()
    await process.look()
    assert missed in process.pulls.under_way, "it is the fourth of them otherwise"
    await process.until_idle()
    assert await gaps.open_gaps(process.pool) == []
    assert value(metrics.GAPS_OPEN) == 1, "as it was at the look"


async def test_a_seller_that_is_back_is_pulled_at_the_next_look(process: Process) -> None:
    """Nobody waits until the sessions that are held count as stale."""
    back, *_ = SELLERS
    await process.pool.execute("update sellers set state = 'expired' where seller_id = $1", back)
    process.puller.may_end.set()
    await process.look()
    await process.until_idle()
    assert sorted(process.puller.pulled) == SELLERS[1:]
    await process.pool.execute("update sellers set state = 'live' where seller_id = $1", back)
    now = process.puller.clock.now()
    began = now - timedelta(minutes=1)
    await gaps.open_for_one(process.connection, back, began=began, ended=now, cause="it was away")
    await process.look()
    await process.until_idle()
    assert process.puller.pulled[-1] == back


async def test_a_pull_whose_lease_was_lost_meanwhile_claims_nothing_and_closes_nothing(
    process: Process,
) -> None:
    seller = SELLERS[0]
    now = process.puller.clock.now()
    await gaps.open_for_one(
        process.connection, seller, began=now - timedelta(hours=2), ended=now, cause="test"
    )
    await process.look()
    await process.until_pulled(PLACES)
    before = await coverage.proven(process.pool)
    await process.pool.execute("update work_leases set epoch = epoch + 1")
    process.puller.may_end.set()
    await process.until_idle()
    assert await coverage.proven(process.pool) == before
    assert await process.pool.fetchval("select count(*) from windows") == 0
    assert await process.pool.fetchval("select count(*) from work_leases where pulled_at is not null") == 0
    assert len(await gaps.open_gaps(process.pool)) == 1


async def test_a_pull_that_fails_waits_for_its_next_turn(process: Process) -> None:
    process.puller.failure = PlatformAwayError("no answer")
    process.puller.may_end.set()
    await process.look()
    await process.until_idle()
    assert sorted(process.puller.pulled) == SELLERS
    await process.look()
    await process.until_idle()
    assert len(process.puller.requests) == len(SELLERS)


async def test_the_interval_of_sweeps_that_are_stretched_is_visible(process: Process) -> None:
    late = process.puller.clock.now() - 3 * SWEEP
    await process.pool.execute("update work_leases set pulled_at = $1", late)
    await process.membership.leave()
    await process.pulls.hold({})
    await process.hold()
    await process.pulls.look()
    assert value(metrics.SWEEP_INTERVAL_SECONDS) == pytest.approx(3 * SWEEP.total_seconds(), abs=5)
    process.puller.may_end.set()
    await process.look()
    await process.until_idle()
    await process.pulls.look()
    assert value(metrics.SWEEP_INTERVAL_SECONDS) == SWEEP.total_seconds()


def value(gauge: Gauge) -> float:
    [metric] = gauge.collect()
    return metric.samples[0].value
