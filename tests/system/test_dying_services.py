"""P4 in the less usual cases: refunds, asking again, backlogs, parking, erasing.

The whole file uses one system, with a witness from its start. Services die at fail points and go on; each
test ends with what is promised: platform = table = topic, order by order and refund by refund. The usual way
of an order is in `test_fleet.py`, operators' commands are in `test_dying_commands.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from schemas.change import Change, Source
from tests.support import executioner, systems
from tests.support.eventually import eventually
from topsync.base.failpoints import Point
from topsync.local.system import SERVICES, Scale, System
from topsync.platforms.taobao.linger import WORDS
from topsync.simulator.ids import OrderKey, tid_of
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.records import Record
from topsync.stream.topics import Topic

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.at_length, pytest.mark.timeout(900)]

RATE = 40
SCALE = Scale(sellers=2, orders=1200, rate=0, seed=7)
SETTINGS = {
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": "1",
    "TOPSYNC_CALLS_PER_SECOND": "200",
    "TOPSYNC_LINGER": ",".join(f"{topic.removeprefix(WORDS.prefix)}=0.5" for topic in WORDS.topics),
    # Soon enough for this test; an order that is shown two seconds late is not given up before that.
    "TOPSYNC_REFETCH_ATTEMPTS": "3",
    "TOPSYNC_BACKLOG_CHANGES": "100",
    "TOPSYNC_BACKLOG_FRESH_SECONDS": "20",
    "TOPSYNC_BULK_FROM_SECONDS": "1",
    "TOPSYNC_BULK_TASKS": "3",
    "TOPSYNC_BULK_POLL_SECONDS": "1",
}
DETAILS = "taobao.topats.trades.fullinfo.get"
ORDERS_OF_A_TASK = 100
LATE_SECONDS = 60
STRANGER = 4_000_000_001
"""The id of a seller that the platform does not have."""

IN_A_BATCH: list[Point] = [
    *("refunds.stored", "refunds.orders_marked"),
    *("postponing.lingering_noted", "postponing.given_up_noted"),
]
ASKING_AGAIN: list[Point] = [
    *("refetching.answered_forgotten", "refetching.lingering_hinted", "refetching.hinted"),
    *("refetching.asked_noted", "refetching.given_up", "refetching.forgotten"),
]
A_TASK: list[Point] = ["bulk.begun", "bulk.created", "bulk.requested", "bulk.published", "bulk.handed_over"]
WITHOUT_TASKS: list[Point] = ["bulk.failed", "bulk.given_back", "bulk.brought", "bulk.hinted"]
ERASING: list[Point] = ["erasure.removed", "enricher.marked", "erasure.tombstones_forgotten"]
POINTS_HERE = frozenset({*IN_A_BATCH, *ASKING_AGAIN, *A_TASK, *WITHOUT_TASKS, *ERASING} - {"enricher.marked"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(kafka_bootstrap_servers: str, database_server_url: str) -> AsyncIterator[System]:
    async with systems.system_apart(
        kafka_bootstrap_servers, database_server_url, SCALE, settings=SETTINGS
    ) as system:
        for name in (*SERVICES, "witness"):
            await system.start(name)
        await system.run("bootstrap")
        yield system
        system.require_running()


async def test_refunds_and_orders_that_are_asked_for_again(live: System, tmp_path: Path) -> None:
    await live.admin("POST", "/faults/fresh_trade_missing", {"newborn_seconds": 2, "seconds": 600})
    await live.admin("POST", "/activity", {"rate": RATE})
    async with hopeless_hints(live), asyncio.TaskGroup() as tasks:
        tasks.create_task(die_at_each(live, "enrich", IN_A_BATCH, tmp_path))
        tasks.create_task(die_at_each(live, "reconcile", ASKING_AGAIN, tmp_path))
    await live.admin("POST", "/activity", {"rate": 0})
    await live.admin("DELETE", "/faults")

    await eventually(lambda: nothing_waits(live), within_seconds=60)
    await systems.require_clean_audit(live)


async def test_a_backlog(live: System, tmp_path: Path) -> None:
    """No order of a task is lost, and deaths alone explain how many tasks ask for it."""
    asked_at = await a_backlog_waits(live)
    before = await systems.calls(live, DETAILS)
    await die_at_each(live, "reconcile", A_TASK, tmp_path)
    await eventually(lambda: nothing_waits(live), within_seconds=90)
    assert await not_fetched_since(live, asked_at) == 0
    orders = await systems.value(live, "select count(*) from orders")
    # Each seller's last task is not full, and each death may cause a new task, or a repeated request.
    most = orders / ORDERS_OF_A_TASK + SCALE.sellers + len(A_TASK)
    assert 0 < await systems.calls(live, DETAILS) - before <= most
    await systems.require_clean_audit(live)


async def test_a_backlog_for_which_the_platform_makes_no_tasks(live: System, tmp_path: Path) -> None:
    await live.admin("POST", "/faults/failed_export", {})
    asked_at = await a_backlog_waits(live)
    await die_at_each(live, "reconcile", WITHOUT_TASKS, tmp_path)
    await eventually(lambda: nothing_waits(live), within_seconds=180)
    await live.admin("DELETE", "/faults")
    assert await not_fetched_since(live, asked_at) == 0
    await systems.require_clean_audit(live)


async def test_parked_orders_come_out_in_order(live: System, tmp_path: Path) -> None:
    away, _ = await systems.seller_ids(live)
    await live.kill("enrich")
    missed = [each for _ in range(30) for each in await systems.change(live, away, "create")]
    await eventually(lambda: are_hinted(live, missed))
    await live.admin("POST", f"/sessions/{away}/expire", {"refreshable": False})
    await die_at_each(live, "enrich", ["enricher.postponed_noted"], tmp_path)
    await eventually(lambda: are_parked(live, missed))

    # Without an enricher, or the hints of the first reconciler would be answered before the second looks.
    await live.kill("enrich")
    await live.kill("reconcile")
    grant = await live.admin("POST", f"/sessions/{away}/grant")
    assert isinstance(grant, dict)
    await live.run("sellers", "authorise", str(away), "--code", grant["code"])
    await die_at_each(live, "reconcile", ["refetching.hinted", "refetching.asked_noted"], tmp_path)
    await live.start("enrich")
    await eventually(lambda: nothing_waits(live), within_seconds=60)

    assert await systems.stored(live, missed) == len(missed)
    async for occurred in first_asked_again(live, {each.tid for each in missed}):
        assert occurred == sorted(occurred)
    await systems.require_clean_audit(live)


async def test_erasing_a_seller(live: System, tmp_path: Path) -> None:
    erased, _ = await systems.seller_ids(live)
    topics = systems.registry(live)
    had = [await ids_of(live, topic, erased) for topic in (topics.orders, topics.refunds)]
    assert all(had)
    await live.kill("enrich")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(die_at_each(live, "enrich", ERASING, tmp_path))
        command = ("sellers", "erase", str(erased), "--confirm", str(erased))
        tasks.create_task(live.run(*command, timeout_seconds=executioner.WITHIN_SECONDS))

    some = min(had[0])
    now = await systems.platform_now(live)
    await publish(live, [a_hint(live, erased, some, now)])
    await eventually(lambda: everything_is_read(live))
    for table in ("orders", "refunds", "tombstones", "refetches"):
        assert not await systems.value(live, f"select count(*) from {table} where seller_id = $1", erased)
    for topic, ids in zip((topics.orders, topics.refunds), had, strict=True):
        last = {int(each.key): each for each in await systems.records(systems.kafka_settings(live), topic)}
        assert all(last[id_].value is None for id_ in ids)
    await systems.require_clean_audit(live)


async def die_at_each(system: System, name: str, points: Sequence[Point], folder: Path) -> None:
    """Let a service die at each of these points; afterwards it runs as before."""
    await system.kill(name)
    await executioner.die_at_each(partial(system.start, name), points, folder)
    await system.start(name)


@asynccontextmanager
async def hopeless_hints(system: System) -> AsyncIterator[None]:
    """Every second, a hint about an order that does not exist, and a hint about an unknown seller."""
    seller, *_ = await systems.seller_ids(system)

    async def go_on() -> None:
        for number in count(10_000_000):
            now = await systems.platform_now(system)
            about = enumerate((seller, STRANGER))
            # Late, so that they do not linger first.
            hints = [a_hint(system, whose, tid_of(OrderKey(i, number)), now, late=True) for i, whose in about]
            await publish(system, hints)
            await asyncio.sleep(1)

    going_on = asyncio.create_task(go_on())
    try:
        yield
    finally:
        going_on.cancel()
        await asyncio.wait([going_on])


async def a_backlog_waits(system: System) -> datetime:
    """Publish late hints for all orders, which a writer with a backlog reads; returns the time before."""
    await system.kill("enrich")
    await system.kill("reconcile")
    now = await systems.platform_now(system)
    rows = await systems.rows(system, "select tid, seller_id from orders")
    hints = [a_hint(system, row["seller_id"], row["tid"], now, late=True) for row in rows]
    await publish(system, hints)
    await system.start("enrich")
    await eventually(lambda: everything_is_read(system), within_seconds=60)
    assert await waiting(system) > len(rows) / 2
    return now


async def not_fetched_since(system: System, asked_at: datetime) -> int:
    """Orders without a fetch since; those that changed after the hint's message do not count."""
    query = "select count(*) from orders where fetched_at < $1 and modified < $2"
    found: int = await systems.value(system, query, asked_at, asked_at - timedelta(seconds=LATE_SECONDS + 1))
    return found


def a_hint(system: System, seller: int, tid: int, now: datetime, *, late: bool = False) -> Record:
    received = now - timedelta(seconds=LATE_SECONDS if late else 0)
    return records.change(
        systems.registry(system).changes.name,
        Change(
            seller_id=seller,
            tid=tid,
            event="taobao_trade_TradeChanged",
            occurred_at=received,
            settled_after=now,
            received_at=received,
            source=Source.PUSH,
        ),
    )


async def publish(system: System, hints: list[Record]) -> None:
    async with producers.idempotent(systems.kafka_settings(system)) as producer:
        await producer.publish(hints)


async def waiting(system: System) -> int:
    """How many orders of known sellers wait to be asked for again."""
    query = "select count(*) from refetches join sellers using (seller_id)"
    found: int = await systems.value(system, query)
    return found


async def nothing_waits(system: System) -> bool:
    return not await waiting(system)


async def everything_is_read(system: System) -> bool:
    return not await systems.unread_changes(system)


async def are_hinted(system: System, changed: Sequence[systems.Changed]) -> bool:
    return {str(each.tid) for each in changed} <= {hint["tid"] for hint in await systems.changes(system)}


async def are_parked(system: System, changed: Sequence[systems.Changed]) -> bool:
    parked = {row["tid"] for row in await systems.rows(system, "select tid from refetches where parked")}
    return {each.tid for each in changed} <= parked


async def first_asked_again(system: System, tids: set[int]) -> AsyncIterator[list[str]]:
    """For each partition, when its repeated requests had occurred, in the order of the first requests."""
    topic = systems.registry(system).changes
    found: dict[int, dict[int, str]] = {}
    for record in await systems.records(systems.kafka_settings(system), topic):
        hint = orjson.loads(record.value or b"")
        if int(hint["tid"]) in tids and (hint.get("reason") or "").startswith("asked again"):
            found.setdefault(record.partition, {}).setdefault(int(hint["tid"]), hint["occurred_at"])
    assert found
    for first in found.values():
        yield list(first.values())


async def ids_of(system: System, topic: Topic, seller: int) -> set[int]:
    """The ids of a seller that a topic has, by the last record of each id."""
    last = {int(each.key): each for each in await systems.records(systems.kafka_settings(system), topic)}
    table, column = (
        ("orders", "tid") if topic == systems.registry(system).orders else ("refunds", "refund_id")
    )
    rows = await systems.rows(system, f"select {column} as id from {table} where seller_id = $1", seller)
    return {row["id"] for row in rows if row["id"] in last}
