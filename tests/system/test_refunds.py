"""P1, P2, I3 for refunds: a bulk start, lost messages, a writer that dies, and refunds that no order shows.

The whole file uses one system, with a witness from its start. On its platform a refund after the sale does
not change its order's `modified`: then no list of orders shows it, only the list of refunds does. Each test
ends with an audit: order by order and refund by refund, platform = table = topic, nothing ever went
backwards, the ledger has no hole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from schemas import cloud_events
from tests.support import systems
from tests.support.eventually import eventually
from tests.support.systems import frozen
from topsync.local.system import SERVICES, Scale, System

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.at_length]

RATE = 40
SCALE = Scale(sellers=2, orders=800, rate=0, visibility_delay_seconds=1)
HABITS = """
[settings.quirks]
aftersale_refunds_move_orders = false
refunds_oldest_first = true
"""
LOST = {"seconds": 600, "probability": 0.3333}
REFUNDS = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(
    kafka_bootstrap_servers: str, database_server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[System]:
    """Everything runs, every seller is live, and only tests make changes."""
    habits = tmp_path_factory.mktemp("platform") / "habits.toml"
    habits.write_text(HABITS)
    settings = {"TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "2"}
    arguments = ("--scenario", str(habits))
    async with systems.system_apart(
        kafka_bootstrap_servers, database_server_url, SCALE, settings=settings, simulator_arguments=arguments
    ) as system:
        for name in (*SERVICES, "witness"):
            await system.start(name)
        await system.run("bootstrap")
        yield system
        system.require_running()


async def test_a_bulk_start_brings_the_refunds_of_its_three_months(live: System) -> None:
    certified = await systems.value(
        live, "select sum((certificate -> 'today' ->> 'refunds')::integer) from bootstraps"
    )
    assert certified == await count(live) > REFUNDS
    assert await systems.value(live, "select bool_and(with_refunds) from coverage")
    oldest = await systems.value(live, "select now() - min(modified) > interval '30 days' from refunds")
    assert oldest, "neither the export nor today's changes have so old a refund"
    await systems.require_clean_audit(live)


async def test_refunds_live_through_lost_messages(live: System) -> None:
    """A third of all messages never come, while refunds are requested, answered and closed."""
    before, versions = await count(live), await systems.value(live, "select sum(revision) from refunds")
    await live.admin("POST", "/faults/drop", LOST)
    await live.admin("POST", "/activity", {"rate": RATE})
    for seller in await systems.seller_ids(live):
        for event in ("refund_create", "refund_agree", "refund_return", "refund_success", "refund_close"):
            await systems.change(live, seller, event, count=1)
            await systems.change(live, seller, "refund_create", count=REFUNDS // 5)
    await live.admin("DELETE", "/faults")

    await systems.require_clean_audit(live)

    assert await count(live) >= before + REFUNDS
    assert await systems.value(live, "select sum(revision) from refunds") > versions + 2 * REFUNDS
    found = {row["source"] for row in await systems.rows(live, "select distinct source from refunds")}
    assert {"push", "sweep", "bootstrap"} <= found
    events = [cloud_events.attributes(record.headers) for record in await published(live)]
    assert {"created", "succeeded"} <= {name for event in events for name in event["transitions"].split(",")}


async def test_a_refund_that_its_order_does_not_show_is_found_by_the_list_of_refunds(live: System) -> None:
    """P1: there is no message, and the order's `modified` does not change."""
    finished = await systems.rows(live, FINISHED, REFUNDS)
    before = await count(live)
    for order in finished:
        (changed,) = await systems.change(
            live, order["seller_id"], "refund_create", tid=order["tid"], message=False
        )
        assert changed.modified == order["modified"]

    await eventually(lambda: has_refunds(live, before + len(finished)))
    await systems.require_clean_audit(live)

    sources = await systems.rows(
        live,
        "select distinct source from refunds where tid = any($1) and revision = 1 and status = $2",
        [order["tid"] for order in finished],
        "WAIT_SELLER_AGREE",
    )
    assert {row["source"] for row in sources} == {"sweep"}


async def test_a_writer_killed_between_the_table_and_the_topic_leaves_no_refund_unpublished(
    live: System,
) -> None:
    enricher, kafka = live.processes["enrich"], live.servers.kafka
    assert kafka
    seller, *_ = await systems.seller_ids(live)
    connection = await asyncpg.connect(live.environment["TOPSYNC_DATABASE_URL"])
    try:
        await connection.execute("begin; lock table refunds in share row exclusive mode")
        await systems.change(live, seller, "refund_create", count=REFUNDS)
        await eventually(lambda: a_refund_waits(live))
        with frozen(kafka.process):
            await connection.execute("rollback")
            await eventually(lambda: has_unpublished(live))
            enricher.kill()
            await enricher.wait()
            assert await has_unpublished(live)
    finally:
        connection.terminate()
    await live.start("enrich")

    await systems.require_clean_audit(live)

    assert not await has_unpublished(live)


FINISHED = """
select tid, seller_id, modified from orders
where status = 'TRADE_FINISHED' and not exists (select from refunds where refunds.tid = orders.tid)
order by tid limit $1
"""


async def published(system: System) -> list[systems.Record]:
    return await systems.records(systems.kafka_settings(system), systems.registry(system).refunds)


async def count(system: System) -> int:
    refunds: int = await systems.value(system, "select count(*) from refunds")
    return refunds


async def has_refunds(system: System, number: int) -> bool:
    return await count(system) >= number


async def a_refund_waits(system: System) -> bool:
    waiting: int = await systems.value(
        system,
        "select count(*) from pg_stat_activity "
        "where wait_event_type = 'Lock' and query ~ 'insert into refunds '",
    )
    return waiting > 0


async def has_unpublished(system: System) -> bool:
    unpublished: int = await systems.value(
        system, "select count(*) from refunds where published_revision < revision"
    )
    return unpublished > 0
