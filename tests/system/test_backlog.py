"""P1, P3: after an outage of the writers, new changes come at once, and the backlog with few calls."""

from __future__ import annotations

from datetime import timedelta

import pytest

from schemas.change import Change, Source
from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import Scale, System
from topsync.stream import producer as producers
from topsync.stream import records

ORDERS = 4_000
HINTS_PER_ORDER = 5
FRESH_WITHIN_SECONDS = 10
"""On a busy machine. Single calls would take forty seconds for the backlog, and tasks about as long."""

SETTINGS = {
    **systems.NO_SWEEPS,
    "TOPSYNC_BACKLOG_CHANGES": "500",
    "TOPSYNC_BACKLOG_FRESH_SECONDS": "20",
    "TOPSYNC_CALLS_PER_SECOND": "100",
    "TOPSYNC_BULK_FROM_SECONDS": "2",
    "TOPSYNC_BULK_TASKS": "5",
    "TOPSYNC_BULK_POLL_SECONDS": "1",
}
FULLINFO, DETAILS = "taobao.trade.fullinfo.get", "taobao.topats.trades.fullinfo.get"


@pytest.mark.at_length
async def test_twenty_thousand_late_hints_hold_up_no_fresh_change(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    async with systems.system_on(
        kafka_bootstrap_servers,
        database_url,
        topic_prefix,
        Scale(sellers=2, orders=ORDERS, rate=0, visibility_delay_seconds=0),
        settings=SETTINGS,
    ) as system:
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        await system.processes["enrich"].stop()
        await publish_late_hints(system)
        before = {api: await systems.calls(system, api) for api in (FULLINFO, DETAILS)}

        await system.start("enrich")
        await eventually(lambda: tasks_run(system), within_seconds=60)
        fresh = await systems.change(system, (await systems.seller_ids(system))[0], "create", count=20)
        await eventually(lambda: all_stored(system, fresh), within_seconds=FRESH_WITHIN_SECONDS)
        assert await backlog(system) > ORDERS / 2, "they overtook it"

        await system.kill("reconcile")
        assert await tasks_run(system)
        await system.start("reconcile")
        await eventually(lambda: nothing_waits(system), within_seconds=90)

        by_task = await systems.calls(system, DETAILS) - before[DETAILS]
        alone = await systems.calls(system, FULLINFO) - before[FULLINFO]
        assert by_task <= ORDERS / 100 + 10
        assert alone <= ORDERS / 10
        await systems.require_clean_audit(system)


async def publish_late_hints(system: System) -> None:
    """Hints for every order, a minute old, as push would have written them while no writer read."""
    now = await systems.platform_now(system)
    rows = await systems.rows(system, "select tid, seller_id from orders")
    assert len(rows) == ORDERS
    topic = systems.registry(system).changes.name
    hints = [
        records.change(
            topic,
            Change(
                seller_id=row["seller_id"],
                tid=row["tid"],
                event="taobao_trade_TradeChanged",
                occurred_at=now - timedelta(minutes=1),
                settled_after=now,
                received_at=now - timedelta(minutes=1),
                source=Source.PUSH,
            ),
        )
        for _ in range(HINTS_PER_ORDER)
        for row in rows
    ]
    async with producers.idempotent(systems.kafka_settings(system)) as producer:
        await producer.publish(hints)


async def tasks_run(system: System) -> bool:
    return bool(await systems.value(system, "select count(*) from detail_tasks where task_id is not null"))


async def backlog(system: System) -> int:
    count: int = await systems.value(
        system, "select count(*) from refetches where reason in ('backlog', 'in_task')"
    )
    return count


async def nothing_waits(system: System) -> bool:
    return not await backlog(system)


async def all_stored(system: System, changed: list[systems.Changed]) -> bool:
    return await systems.stored(system, changed) == len(changed)
