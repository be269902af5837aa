"""Two that watch the push connections at once open each gap once, and neither sets the other back (P1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from reconciler.push_watch import PushWatch
from tests.reconciler.late import Frozen
from tests.store.databases import emptied
from tests.support.eventually import eventually
from topsync.base.clock import ServerClock
from topsync.model.scheme import Scheme
from topsync.store import database, gaps, push_connections
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.push_connections import PushConnection

SELLERS = 2


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url, connections=8) as pool:
        yield pool


def watch(pool: Pool) -> PushWatch:
    clock = ServerClock()
    clock.observe(datetime.now(UTC), sent=clock.monotonic(), received=clock.monotonic())
    return PushWatch(pool, clock, Scheme.AUTO, silent_for=timedelta(seconds=30), poll_seconds=1)


def connection(*, since: datetime) -> PushConnection:
    return PushConnection(uuid4(), "default", since, since + timedelta(minutes=1))


async def test_two_rounds_at_once_open_each_gap_once_and_end_it(pool: Pool) -> None:
    now = datetime.now(UTC)
    lost = connection(since=now - timedelta(hours=2))
    await push_connections.write(pool, lost)
    await push_connections.write(pool, replace(lost, lost_at=now - timedelta(hours=1), reason="x", cause="x"))
    await push_connections.write(pool, connection(since=now - timedelta(minutes=5)))
    await asyncio.gather(*(watch(pool).round() for _ in range(3)))
    found = await gaps.open_gaps(pool)
    assert len(found) == SELLERS
    assert {(gap.began, gap.ended) for gap in found} == {(lost.last_proof_at, now - timedelta(minutes=5))}


async def test_a_watch_that_stands_still_opens_no_gap_later_for_what_it_saw_then(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection that it saw lost has come back, and has lost nothing."""
    monkeypatch.setattr(database, "IDLE_TRANSACTION", "200ms")
    now = datetime.now(UTC)
    back = connection(since=now - timedelta(hours=2))
    await push_connections.write(pool, replace(back, lost_at=now - timedelta(hours=1), reason="x", cause="x"))
    frozen = Frozen(push_connections, "lost")
    with monkeypatch.context() as patch:
        patch.setattr("reconciler.push_watch.push_connections", frozen)
        late = asyncio.create_task(watch(pool).round())
        await asyncio.wait_for(frozen.reached.wait(), 20)
    await push_connections.write(pool, back)

    async def is_over() -> bool:
        return not await pool.fetchval(IN_TRANSACTION)

    await eventually(is_over)
    frozen.thaw()
    with pytest.raises(OUTAGE_ERRORS):
        await late
    assert await gaps.open_gaps(pool) == []


IN_TRANSACTION = """
select exists (
    select from pg_stat_activity where datname = current_database() and state = 'idle in transaction'
)
"""
