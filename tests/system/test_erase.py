"""`topsync sellers erase` in a live system: whatever dies meanwhile, all data goes, for ever."""

from __future__ import annotations

import asyncio
from datetime import datetime

import httpx
import orjson
import pytest

from schemas import cloud_events
from schemas.change import Hint
from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import Scale, System
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.records import Record

SCALE = Scale(sellers=2, orders=400, rate=15, seed=11)
SETTINGS = {"TOPSYNC_SWEEP_INTERVAL_SECONDS": "1"}
TABLES = (
    *("orders", "tombstones", "refetches", "windows", "window_days", "coverage", "gaps"),
    *("bootstraps", "export_slices", "slice_rows", "replays", "replay_pieces", "session_warnings"),
    *("comparisons", "differences", "comparison_failures"),
)


@pytest.mark.at_length
async def test_one_of_two_live_sellers_is_erased_and_nothing_brings_it_back(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    async with systems.system_on(
        kafka_bootstrap_servers, database_url, topic_prefix, SCALE, settings=SETTINGS
    ) as system:
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        erased, kept = await systems.seller_ids(system)
        published = await orders_of(system, erased)
        assert published

        await nothing_happens_unless_it_is_confirmed(system, erased)
        await without_enrichers_it_says_what_to_start(system, erased)
        await whatever_is_killed_it_goes_on(system, erased)

        assert await orders_of(system, erased) == set()
        assert published <= await tombstoned(system), "each order's last record is its tombstone"
        assert await left_of(system, erased) == {}
        assert (await announced(system, erased))[-1]["orders"] >= len(published)
        assert not await systems.records(systems.kafka_settings(system), systems.registry(system).snapshots)

        await nothing_comes_back(system, erased, min(published))
        assert await orders_of(system, kept)
        await systems.require_clean_audit(system)
        await it_begins_anew_when_it_is_added_again(system, erased)
        await systems.require_clean_audit(system)


async def nothing_happens_unless_it_is_confirmed(system: System, seller: int) -> None:
    status, output = await system.try_run("sellers", "erase", str(seller), given="yes\n")
    assert status == 1
    assert "nothing is erased" in output
    assert await state_of(system, seller) == "live"


async def without_enrichers_it_says_what_to_start(system: System, seller: int) -> None:
    await system.kill("enrich")
    status, output = await erase(system, seller, "--wait-seconds", "7")
    assert status == 1
    assert "is `topsync enrich` running?" in output
    assert "Start `topsync enrich`; run the same command again" in output
    assert await state_of(system, seller) == "erased"
    status, output = await system.try_run("audit", "--settle-seconds", "0")
    assert status == 1
    assert "not erased" in output, "its orders are still in table and topic"
    status, output = await system.try_run("sellers", "add", *named(seller), given="a token")
    assert status == 1
    assert "is being erased" in output


async def whatever_is_killed_it_goes_on(system: System, seller: int) -> None:
    """The command and the enricher die during a statement that deletes orders from the table."""
    async with systems.table_locked(system, "tombstones"):
        await system.start("enrich")
        command = asyncio.create_task(erase(system, seller))
        await eventually(lambda: erasing_waits(system))
        await system.kill("enrich")
        command.cancel()
        await asyncio.gather(command, return_exceptions=True)
    await system.start("enrich")
    status, output = await erase(system, seller)
    assert status == 0, output
    assert "is erased" in output
    assert "among the dead letters" in output, "it says what stays"
    ledger = await system.admin("GET", "/ledger")
    assert isinstance(ledger, dict)
    assert ledger["gateway"]["apis"]["taobao.tmc.user.cancel"]["total"] == 1
    again, output = await erase(system, seller)
    assert (again, "is erased already" in output) == (0, True)


async def nothing_comes_back(system: System, seller: int, tid: int) -> None:
    """Not a message that was on its way, a sweep, a restart, nor an unread line of an export."""
    await systems.change(system, seller, "create", count=3)
    now = await systems.platform_now(system)
    hint = Hint(seller, tid, "taobao_trade_TradeClose", now, now, now)
    topics = systems.registry(system)
    late: list[Record] = [
        records.change(topics.changes.name, hint),
        records.snapshot(
            topics.snapshots.name,
            tid=tid,
            seller_id=seller,
            as_of=now,
            reason="export 1",
            value=await truth_of(system, seller, tid),
        ),
    ]
    async with producers.idempotent(systems.kafka_settings(system)) as producer:
        await producer.publish(late)
    await eventually(lambda: everything_is_read(system))
    await eventually(lambda: sweeps_since(system, now, at_least=2))
    await system.kill("enrich")
    await system.kill("reconcile")
    async with producers.idempotent(systems.kafka_settings(system)) as producer:
        await producer.publish(late)
    await system.start("enrich")
    await system.start("reconcile")
    await eventually(lambda: everything_is_read(system))

    assert await left_of(system, seller) == {}
    assert await orders_of(system, seller) == set()
    letters = await systems.records(systems.kafka_settings(system), topics.dead_letters)
    assert not [each for each in letters if each.key == records.key_of(tid)]


async def it_begins_anew_when_it_is_added_again(system: System, seller: int) -> None:
    before = await revisions_of(system)
    sessions = await system.admin("GET", "/sellers")
    assert isinstance(sessions, list)
    session = next(str(each["session"]) for each in sessions if each["user_id"] == seller)
    output = await system.run("sellers", "add", *named(seller), given=session)
    assert f"topsync bootstrap --seller {seller}" in output
    assert await state_of(system, seller) == "new"
    await system.run("bootstrap", "--seller", str(seller))
    assert await state_of(system, seller) == "live"
    after = await orders_of(system, seller)
    assert after
    revisions = await revisions_of(system)
    assert all(revisions[tid] > before[tid] for tid in after & before.keys())


def named(seller: int) -> tuple[str, ...]:
    return "--user-id", str(seller), "--nick", f"again_{seller}"


async def erase(system: System, seller: int, *more: str) -> tuple[int, str]:
    return await system.try_run("sellers", "erase", str(seller), "--confirm", str(seller), *more)


async def state_of(system: System, seller: int) -> str:
    state: str = await systems.value(system, "select state from sellers where seller_id = $1", seller)
    return state


async def left_of(system: System, seller: int) -> dict[str, int]:
    """The number of rows of a seller, by table; only tables that have any."""
    counts = {
        table: await systems.value(system, f"select count(*) from {table} where seller_id = $1", seller)
        for table in TABLES
    }
    return {table: count for table, count in counts.items() if count}


async def erasing_waits(system: System) -> bool:
    waiting = "wait_event_type = 'Lock' and query ~ 'delete from orders'"
    return bool(await systems.value(system, f"select count(*) from pg_stat_activity where {waiting}"))


async def sweeps_since(system: System, since: datetime, *, at_least: int) -> bool:
    query = "select count(*) from windows where source = 'sweep' and pulled_at > $1"
    found: int = await systems.value(system, query, since)
    return found >= at_least


async def everything_is_read(system: System) -> bool:
    return not await systems.unread_changes(system)


async def compacted(system: System) -> dict[int, systems.Record]:
    """The last record of each order, as a `read_committed` subscriber sees it."""
    found = await systems.records(systems.kafka_settings(system), systems.registry(system).orders)
    return {int(record.key): record for record in found}


async def orders_of(system: System, seller: int) -> set[int]:
    return {
        tid
        for tid, record in (await compacted(system)).items()
        if record.value is not None and cloud_events.attributes(record.headers)["sellerid"] == str(seller)
    }


async def tombstoned(system: System) -> set[int]:
    return {
        tid
        for tid, record in (await compacted(system)).items()
        if record.value is None
        and cloud_events.attributes(record.headers)["type"] == "taobao.trade.order.erased.v1"
    }


async def revisions_of(system: System) -> dict[int, int]:
    return {
        tid: int(cloud_events.attributes(record.headers)["revision"])
        for tid, record in (await compacted(system)).items()
    }


async def announced(system: System, seller: int) -> list[dict[str, int]]:
    """The records in which subscribers learn of the seller's erasure."""
    found = await systems.records(systems.kafka_settings(system), systems.registry(system).notifications)
    return [orjson.loads(each.value) for each in found if each.key == f"seller-erased:{seller}".encode()]


async def truth_of(system: System, seller: int, tid: int) -> bytes:
    """An order as the platform has it now, in the form of a line of an export."""
    async with httpx.AsyncClient(base_url=system.admin_url, trust_env=False, timeout=30) as client:
        answer = await client.get("/truth", params={"user_id": seller})
    lines = answer.raise_for_status().content.split(b"\n")
    return next(line for line in lines if line and int(orjson.loads(line)["tid"]) == tid)
