"""Opens the platform: inside the budget that all processes share, with its clock set and calls counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from topsync.base import live_calendar, retry, settings
from topsync.base.clock import ServerClock
from topsync.base.live_calendar import LiveCalendar
from topsync.base.rereading import Latest
from topsync.base.settings import DatabaseSettings, PlatformSettings
from topsync.budget.gate import BudgetGate, GateConfig
from topsync.model.anomaly import Sightings
from topsync.platforms.platform_port import OpenPlatform, OrderPlatform
from topsync.store import shared_budget
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.wiring import parts, platform_clock
from topsync.wiring.call_counts import CallCounts
from topsync.wiring.rules_now import RulesNow


@asynccontextmanager
async def open_platform(
    platform: OrderPlatform,
    pool: Pool,
    *,
    calendar: LiveCalendar | None = None,
    retries: retry.Policy | None = None,
    waits: bool = True,
    sightings: Sightings | None = None,
) -> AsyncIterator[tuple[OpenPlatform, ServerClock]]:
    """The platform and its clock, set; `retries` in place of the platform's own policy. The calendar is the
    installation's, unless another reader of it is handed in.

    Calls keep to the budget that all processes share, and are counted into metrics and the database. So are
    `sightings`, in which whoever opens it may note what is odd.

    Raises:
        UnreachableError: the platform is away, or has closed itself to us; where this `waits`, for too long.
    """
    own, database = settings.load(PlatformSettings), settings.load(DatabaseSettings)
    clock = ServerClock(doubt_seconds=own.clock_doubt_seconds)
    now_on = RulesNow(calendar or live_calendar.configured(), clock)
    counts = CallCounts(pool, clock, Sightings() if sightings is None else sightings)
    async with AsyncExitStack() as stack:
        book = await parts.reach_database(
            lambda: stack.enter_async_context(
                shared_budget.open_book(database, pool, now_on.limits, Latest(database))
            )
        )
        gate = BudgetGate(book, GateConfig(max_in_flight=own.calls_in_flight))
        opened = await stack.enter_async_context(
            platform.open(
                clock,
                gate,
                observer=counts.note,
                retries=retries,
                failure_wait_seconds=now_on.failure_wait_seconds,
            )
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        await platform_clock.set_at_start(opened.time, platform.server, waits=waits)
        background = [
            tasks.create_task(platform_clock.keep(opened.time, clock)),
            tasks.create_task(counts.write_for_ever()),
        ]
        try:
            yield opened, clock
        finally:
            for task in background:
                task.cancel()
            with suppress(*OUTAGE_ERRORS):
                await counts.write()
