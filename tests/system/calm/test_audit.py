"""An audit of a running system: an order that is still under way is no error; one that never arrives is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from signal import SIGCONT, SIGSTOP

import pytest

from tests.support import systems
from tests.support.eventually import eventually
from topsync.base.settings import DatabaseSettings
from topsync.local.system import System
from topsync.model.kind import Kind
from topsync.store import database
from topsync.verify.audit import Audit, Compared, OnTheMove, Result, Stage

pytestmark = pytest.mark.asyncio(loop_scope="package")

ORDERS = 5
LONG_SECONDS = 3600.0
"""How long the first look takes here, by the audit's clock: far longer than the time for second looks."""

SETTLE_SECONDS = 120.0


async def test_differences_are_looked_at_again_however_long_the_first_look_took(calm: System) -> None:
    stages: list[Stage] = []
    late_seconds = 0.0

    def take_long_and_then_let_it_arrive(stage: Stage) -> None:
        nonlocal late_seconds
        if isinstance(stage, Compared):
            late_seconds += LONG_SECONDS
        elif not any(isinstance(before, OnTheMove) for before in stages):
            calm.processes["enrich"].signal(SIGCONT)
        stages.append(stage)

    async with created_before_a_frozen_enricher(calm):
        result = await audit(
            calm,
            settle_seconds=SETTLE_SECONDS,
            reached=take_long_and_then_let_it_arrive,
            monotonic=lambda: time.monotonic() + late_seconds,
        )
    assert (result.missing, result.stale, result.holes) == (0, 0, 0)
    assert result.moved == ORDERS
    first = next(stage for stage in stages if isinstance(stage, OnTheMove))
    assert first.differing == ORDERS


async def test_orders_that_have_not_arrived_at_the_end_are_named(calm: System) -> None:
    async with created_before_a_frozen_enricher(calm) as tids:
        result = await audit(calm, settle_seconds=0.0)
        assert (result.missing, result.stale, result.moved) == (ORDERS, 0, 0)
        named = [example for seller in result.sellers for example in seller.examples]
        assert sorted(named) == sorted(f"order {tid} missing in the table" for tid in tids)


@asynccontextmanager
async def created_before_a_frozen_enricher(calm: System) -> AsyncIterator[list[int]]:
    """Orders that are not copied until the enricher goes on; at the end they are there."""
    seller, *_ = await systems.seller_ids(calm)
    enricher = calm.processes["enrich"]
    enricher.signal(SIGSTOP)
    try:
        tids = [changed.tid for changed in await systems.change(calm, seller, "create", count=ORDERS)]
        yield tids
    finally:
        enricher.signal(SIGCONT)

    async def all_are_there() -> bool:
        stored = await systems.rows(calm, "select tid from orders where tid = any($1)", tids)
        return len(stored) == ORDERS

    await eventually(all_are_there)


async def audit(
    system: System,
    *,
    settle_seconds: float,
    reached: Callable[[Stage], None] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Result:
    own = DatabaseSettings(database_url=system.environment["TOPSYNC_DATABASE_URL"])
    async with database.connect(own) as pool:
        subject = Audit(
            pool,
            systems.kafka_settings(system),
            systems.registry(system),
            system.admin_url,
            kinds=tuple(Kind),
            reached=reached,
            monotonic=monotonic,
        )
        return await subject.run(settle_seconds=settle_seconds)
