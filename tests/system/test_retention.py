"""P1, I3, I4 while old rows vanish: nothing that is still needed goes, and what was proven stays tellable."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import Scale, System

RATE = 30
DAY_SECONDS = 86400
KEPT_SECONDS = 4

SETTINGS = {
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": "1",
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "1",
    "TOPSYNC_GAP_RETRY_SECONDS": "1",
    "TOPSYNC_PUSH_LOST_AFTER_SECONDS": "3",
    "TOPSYNC_RETENTION_INTERVAL_SECONDS": "1",
    "TOPSYNC_WINDOWS_KEPT_DAYS": f"{KEPT_SECONDS / DAY_SECONDS:.9f}",
    "TOPSYNC_GAPS_KEPT_DAYS": f"{KEPT_SECONDS / DAY_SECONDS:.9f}",
}


@pytest.mark.at_length
async def test_rows_vanish_while_orders_flow_and_nothing_is_missing(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    """Through losses of push, whose gaps go, and the death of a reconciler in the middle of it."""
    async with systems.system_on(
        kafka_bootstrap_servers,
        database_url,
        topic_prefix,
        Scale(sellers=3, orders=120, rate=RATE, visibility_delay_seconds=0),
        settings=SETTINGS,
    ) as system:
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        (created,) = await systems.change(system, (await systems.seller_ids(system))[0], "create")

        await lose_push(system)
        await system.kill("reconcile")
        await system.start("reconcile")
        await lose_push(system)

        last = await last_gap(system)
        await eventually(lambda: gaps_are_gone(system, up_to=last))
        connections = "select count(*) from push_connections where lost_at is not null"
        await eventually(lambda: is_zero(system, connections))
        await eventually(lambda: is_told_by_a_sum(system, created.tid))

        back_at = await systems.platform_now(system)
        await eventually(lambda: is_proven(system, back_at))
        told = await systems.value(system, "select sum(windows) from window_days")
        assert told > await systems.value(system, "select count(*) from windows")
        system.require_running()
        await systems.require_clean_audit(system)


async def lose_push(system: System) -> None:
    """Push dies while it is connected, and comes back: gaps are opened."""
    await eventually(lambda: is_connected(system))
    before = await last_gap(system)
    await system.kill("push")
    await system.start("push")
    await eventually(lambda: has_opened_gaps(system, before))


async def is_connected(system: System) -> bool:
    return not await is_zero(system, "select count(*) from push_connections where not gap_opened")


async def has_opened_gaps(system: System, before: int) -> bool:
    return await last_gap(system) > before


async def last_gap(system: System) -> int:
    """The number of the newest gap, also where it is gone."""
    return int(await systems.value(system, "select last_value from gaps_id_seq"))


async def gaps_are_gone(system: System, *, up_to: int) -> bool:
    return await is_zero(system, f"select count(*) from gaps where id <= {up_to}")


async def is_zero(system: System, query: str) -> bool:
    return bool(await systems.value(system, query) == 0)


async def is_told_by_a_sum(system: System, tid: int) -> bool:
    """Whether the windows of an order's last change are in a day's sum, and its story says so."""
    return "day's sum of " in await system.run("orders", "explain", str(tid))


async def is_proven(system: System, at: datetime) -> bool:
    """Whether every seller is proven beyond a moment."""
    query = (
        "select bool_and(coalesce(proven @> $1::timestamptz, false)) "
        "from sellers left join coverage using (seller_id)"
    )
    return bool(await systems.value(system, query, at))
