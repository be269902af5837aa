"""P1, P3: messages that wait for others of their order need no call of their own, and are never forgotten.

Only the test makes changes on the platform, so every call is about them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Final

import pytest
import pytest_asyncio

from tests.support import systems
from tests.support.eventually import eventually
from tests.support.executioner import die_at_each
from tests.support.servers import fresh_database
from tests.support.systems import Changed
from topsync.local.system import Scale, System

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW_SECONDS, MEMO_SECONDS = 3.0, 8.0
SETTINGS: Final = {
    **systems.NO_SWEEPS,
    "TOPSYNC_DETAIL_LAG_ALLOWANCE_SECONDS": "1",
    "TOPSYNC_LINGER": f"TradeCreate={NEW_SECONDS},TradeAlipayCreate={NEW_SECONDS},"
    f"TradeMemoModified={MEMO_SECONDS}",
}
FULLINFO: Final = "taobao.trade.fullinfo.get"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def resting(kafka_bootstrap_servers: str, database_server_url: str) -> AsyncIterator[System]:
    """All services run, sellers are live, nothing changes."""
    async with (
        fresh_database(database_server_url) as database_url,
        systems.system_on(
            kafka_bootstrap_servers,
            database_url,
            f"test-{token_hex(8)}",
            Scale(sellers=1, orders=50, rate=0, visibility_delay_seconds=0),
            settings=SETTINGS,
        ) as system,
    ):
        await system.start_services()
        await system.run("bootstrap")
        yield system
        system.require_running()


async def test_an_urgent_message_brings_along_what_waits_of_its_order(resting: System) -> None:
    """A call for three messages, two at most; the urgent message waits for nothing."""
    before = await systems.calls(resting, FULLINFO)
    (created,) = await change(resting, "create")
    await eventually(lambda: waits(resting, created))
    (paid,) = await change(resting, "pay", tid=created.tid)
    await eventually(lambda: is_stored(resting, paid), within_seconds=NEW_SECONDS - 1)
    await eventually(lambda: nothing_waits(resting))
    await eventually(lambda: everything_is_read(resting))
    # On a busy machine the second message of the payment may come when the first has been fetched for.
    assert before + 1 <= await systems.calls(resting, FULLINFO) <= before + 2


async def test_messages_that_wait_in_vain_for_others_share_one_call(resting: System) -> None:
    before = await systems.calls(resting, FULLINFO)
    (created,) = await change(resting, "create")
    await eventually(lambda: waits(resting, created))
    assert await systems.calls(resting, FULLINFO) == before
    await eventually(lambda: is_stored(resting, created))
    fetched_at = await systems.value(resting, "select fetched_at from orders where tid = $1", created.tid)
    assert fetched_at >= created.modified + timedelta(seconds=NEW_SECONDS)
    await eventually(lambda: nothing_waits(resting))
    await eventually(lambda: everything_is_read(resting))
    assert await systems.calls(resting, FULLINFO) == before + 1


async def test_without_a_reconciler_messages_wait_until_there_is_one(resting: System) -> None:
    assert await resting.processes["reconcile"].stop() == 0
    before = await systems.calls(resting, FULLINFO)
    (created,) = await change(resting, "create")
    await eventually(lambda: is_overdue(resting, created))
    assert await systems.calls(resting, FULLINFO) == before

    await resting.start("reconcile")
    await eventually(lambda: is_stored(resting, created))
    await eventually(lambda: nothing_waits(resting))
    await eventually(lambda: everything_is_read(resting))
    assert await systems.calls(resting, FULLINFO) == before + 1


async def test_an_enricher_that_dies_with_a_message_noted_and_not_committed_leaves_one_call_to_be_made(
    resting: System, tmp_path: Path
) -> None:
    """P4: when the message is read again, it may have waited long enough, but its note still waits."""
    assert await resting.processes["enrich"].stop() == 0
    before, owned = await systems.calls(resting, FULLINFO), await epochs(resting)
    dying = asyncio.create_task(
        die_at_each(lambda armed: resting.start("enrich", armed), ["enricher.publishing"], tmp_path)
    )
    await eventually(lambda: all_are_taken_over(resting, owned))
    (noted,) = await change(resting, "memo")
    await dying
    assert await waits(resting, noted)

    await resting.start("enrich")
    await eventually(lambda: is_stored(resting, noted))
    await eventually(lambda: nothing_waits(resting))
    await eventually(lambda: everything_is_read(resting))
    assert await systems.calls(resting, FULLINFO) == before + 1


async def change(system: System, event: str, **wish: object) -> list[Changed]:
    seller, *_ = await systems.seller_ids(system)
    return await systems.change(system, seller, event, **wish)


async def waits(system: System, changed: Changed) -> bool:
    query = "select count(*) from refetches where tid = $1 and reason = 'lingering'"
    return bool(await systems.value(system, query, changed.tid))


async def is_overdue(system: System, changed: Changed) -> bool:
    query = "select count(*) from refetches where tid = $1 and due_at < now()"
    return bool(await systems.value(system, query, changed.tid))


async def epochs(system: System) -> dict[int, int]:
    owners = await systems.rows(system, "select partition, epoch from partition_owners")
    return {owner["partition"]: owner["epoch"] for owner in owners}


async def all_are_taken_over(system: System, before: dict[int, int]) -> bool:
    return all(epoch > before[partition] for partition, epoch in (await epochs(system)).items())


async def nothing_waits(system: System) -> bool:
    return not await systems.value(system, "select count(*) from refetches")


async def is_stored(system: System, changed: Changed) -> bool:
    query = "select count(*) from orders where tid = $1 and modified >= $2"
    return bool(await systems.value(system, query, changed.tid, changed.modified))


async def everything_is_read(system: System) -> bool:
    """Also all messages: those that push has not written yet are in flight."""
    return (await systems.channel(system))["in_flight"] == 0 and await systems.unread_changes(system) == 0
