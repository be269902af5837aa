"""P1, I4: everything is away for 26 hours, longer than the platform keeps messages, while orders go on.

The platform's clock is moved, so that the hours pass in seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import pytest

from schemas import platform_time
from tests.support import systems
from tests.support.eventually import eventually
from tests.support.scenarios import Stage, staged
from tests.support.systems import Changed
from topsync.local.system import SERVICES, System
from topsync.simulator.server import Simulator
from topsync.simulator.settings import ExportSettings, SimulatorSettings

SELLERS = 3
HOURS = 26
EVERY_HOURS = 2
"""So often each seller has changes."""

PLATFORM: Final = SimulatorSettings(
    seed=17,
    sellers=SELLERS,
    orders=150,
    start_at=platform_time.parse("2026-05-20 14:00:00"),
    visibility_delay_seconds=1,
    exports=ExportSettings(schedule_seconds=1, office_hours=False),
)
SETTINGS: Final = {
    **systems.NO_SWEEPS,
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "1",
    # As long as the platform allows.
    "TOPSYNC_WINDOW_SECONDS": str(24 * 3600),
}
ORDERS, REFUNDS = "taobao.trades.sold.increment.get", "taobao.refunds.receive.get"
DETAIL = "taobao.trade.fullinfo.get"
DAYS_LISTED = 2
"""26 hours and the overlap, cut by the day."""

CALLS_OF_LEAST = 1.05
CLOSED_WITHIN_SECONDS = 90


@pytest.mark.at_length
async def test_after_26_hours_without_any_of_us_all_is_fetched_by_few_calls_and_nothing_is_claimed_too_soon(
    kafka_bootstrap_servers: str, database_server_url: str
) -> None:
    async with staged(PLATFORM, kafka_bootstrap_servers, database_server_url, SETTINGS) as stage:
        system, platform = stage.system, stage.platform
        await system.run("bootstrap")
        await stage.eventually_complete(platform.clock.now() - timedelta(hours=1))
        for name in SERVICES:
            await system.kill(name)
            del system.processes[name]
        away_from, until = platform.clock.now(), await stage.complete_until()

        missed = await let_orders_go_on(stage)
        assert await stage.complete_until() == until, "nobody was there to claim anything"
        assert all(moment is not None and moment < away_from for moment in until.values())

        before = calls(platform)
        claims = Claims(system, missed)
        watching = asyncio.create_task(claims.watch())
        for name in SERVICES:
            await system.start(name)
        await eventually(lambda: all_are_closed(system), within_seconds=CLOSED_WITHIN_SECONDS)
        await stage.eventually_complete(away_from + timedelta(hours=HOURS))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert claims.looks > 0
        assert claims.too_soon == Counter()

        messages = await systems.channel(system)
        assert messages["expired"] > 0, "the platform keeps them for 24 hours"
        made = calls(platform) - before
        # Push is back for longer than the allowance when its loss is noticed: so a single pull proves all.
        lists = SELLERS * DAYS_LISTED
        least = {ORDERS: lists, REFUNDS: lists, DETAIL: len({each.tid for _, each in missed})}
        assert {api: made[api] for api in least if made[api] < least[api]} == {}
        assert sum(made[api] for api in least) <= CALLS_OF_LEAST * sum(least.values()), (made, least)
        longest = await systems.value(system, "select max(upper(span) - lower(span)) from windows")
        assert longest <= timedelta(days=1)
        await systems.require_clean_audit(system)
        system.require_running()


async def let_orders_go_on(stage: Stage) -> list[tuple[int, Changed]]:
    """The hours of the outage; returns what changed in them, with its seller."""
    made: list[tuple[int, Changed]] = []
    sellers = [seller.user_id for seller in stage.platform.sellers]
    for hour in range(0, HOURS, EVERY_HOURS):
        for seller in sellers:
            changed = await systems.change(stage.system, seller, "create", count=2)
            if hour:
                changed += await systems.change(stage.system, seller, "pay")
            made += [(seller, each) for each in changed]
        stage.platform.clock.advance(EVERY_HOURS * 3600)
    return made


def calls(platform: Simulator) -> Counter[str]:
    """How many calls the platform has answered, by API."""
    apis: Any = platform.ledger.as_json()["apis"]
    return Counter({api: counts["total"] for api, counts in apis.items()})


async def all_are_closed(system: System) -> bool:
    """Whether each seller had a gap, and none is open."""
    query = "select count(*) filter (where closed_at is null), count(distinct seller_id) from gaps"
    (row,) = await systems.rows(system, query)
    return tuple(row) == (0, SELLERS)


@dataclass
class Claims:
    """Looks all the time whether the ledger claims a moment of which something is not published."""

    system: System
    missed: Sequence[tuple[int, Changed]]
    looks: int = 0
    too_soon: Counter[int] = field(default_factory=Counter)

    async def watch(self) -> None:
        connection = await systems.connect(self.system)
        try:
            while True:
                found = await connection.fetch(
                    TOO_SOON,
                    [seller for seller, _ in self.missed],
                    [each.tid for _, each in self.missed],
                    [each.modified for _, each in self.missed],
                )
                self.too_soon.update(row["tid"] for row in found)
                self.looks += 1
                await asyncio.sleep(0.05)
        finally:
            await connection.close()


TOO_SOON = """
select c.tid
from unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) as c (seller_id, tid, modified)
join coverage as v using (seller_id)
left join orders as o using (tid)
where v.proven @> c.modified and not coalesce(o.modified >= c.modified and o.published_revision > 0, false)
"""
