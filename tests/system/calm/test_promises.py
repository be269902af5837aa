"""The promises, each in a situation in which only one mechanism keeps it.

Everything runs on a system in which nothing happens by itself (see `calm`).
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from signal import SIGCONT, SIGSTOP

import pytest

from tests.support import systems
from tests.support.eventually import eventually, holds
from tests.support.systems import Changed, frozen
from topsync.local.processes import ManagedProcess
from topsync.local.system import System

pytestmark = pytest.mark.asyncio(loop_scope="package")

ORDERS = 20
LONG_ENOUGH_SECONDS = 2.0
"""For things that must not happen: they would take some hundredths of a second."""

GRACE_SECONDS = 10.0
"""A third of the time that Kubernetes gives."""

LOAD_RATE = 30


async def test_a_message_is_confirmed_only_after_kafka_has_it(calm: System) -> None:
    """I1: while the broker does not answer, nothing is confirmed; then everything is."""
    before = await systems.channel(calm)
    with frozen(kafka_process(calm)):
        created = await systems.change(calm, await a_seller(calm), "create", count=ORDERS)
        messages = await all_are_in_pushs_hands(calm, before)
        await holds(lambda: confirmed(calm, before["confirmed"]), for_seconds=LONG_ENOUGH_SECONDS)

    await eventually(lambda: confirmed(calm, before["confirmed"] + messages))
    assert await pushed(calm) >= tids(created)


async def test_push_asked_to_end_waits_for_kafka_and_confirms_what_it_has(calm: System) -> None:
    """I7, I1: the messages that push holds at SIGTERM are acknowledged and confirmed before it ends."""
    before, push = await systems.channel(calm), calm.processes["push"]
    async with systems.gaps_opened_and_closed(calm):
        with frozen(kafka_process(calm)):
            created = await systems.change(calm, await a_seller(calm), "create", count=ORDERS)
            messages = await all_are_in_pushs_hands(calm, before)
            stopping = asyncio.create_task(push.stop(GRACE_SECONDS))
            await holds(lambda: confirmed(calm, before["confirmed"]), for_seconds=LONG_ENOUGH_SECONDS)
            assert push.returncode is None

        assert await stopping == 0
        assert await confirmed(calm, before["confirmed"] + messages)
        assert await pushed(calm) >= tids(created)
        await calm.start("push")


async def test_a_gap_is_replayed_from_before_the_last_proof(calm: System) -> None:
    """P1: a message may be lost although a later message came: only the overlap brings its order."""
    seller = await a_seller(calm)
    (lost,) = await systems.change(calm, seller, "create", message=False)
    await eventually(lambda: platform_is_past(calm, lost.modified + timedelta(seconds=2)))
    received = await systems.change(calm, seller, "create")
    await eventually(lambda: are_stored(calm, received))
    assert await systems.stored(calm, [lost]) == 0

    async with systems.gaps_opened_and_closed(calm):
        await calm.admin("POST", "/faults/kick")

    began: datetime = await systems.value(calm, "select began from gaps order by id desc limit 1")
    assert began > lost.modified + timedelta(seconds=1)
    assert await systems.stored(calm, [lost]) == 1


async def test_nothing_is_claimed_before_it_is_stored(calm: System) -> None:
    """I4, I6: while a listed order is not stored, the ledger does not cover the moment of its change."""
    seller, enricher = await a_seller(calm), calm.processes["enrich"]
    assert await enricher.stop(GRACE_SECONDS) == 0
    (created,) = await systems.change(calm, seller, "create", message=False)
    async with systems.gaps_opened_and_closed(calm):
        await calm.admin("POST", "/faults/kick")
        await eventually(lambda: is_hinted(calm, created))
        await holds(lambda: is_claimed(calm, seller, created, claimed=False), for_seconds=LONG_ENOUGH_SECONDS)
        assert await systems.stored(calm, [created]) == 0

        await calm.start("enrich")

    assert await is_claimed(calm, seller, created, claimed=True)
    assert await systems.stored(calm, [created]) == 1


async def test_every_service_ends_in_good_order_under_load(calm: System) -> None:
    """I7: SIGTERM at any time: status 0 within the grace period, and nothing is lost."""
    async with systems.gaps_opened_and_closed(calm):
        await calm.admin("POST", "/activity", {"rate": LOAD_RATE})
        for name in ("push", "enrich", "reconcile", "witness"):
            await something_is_published(calm)
            asked_at = time.monotonic()
            status = await calm.processes[name].stop(GRACE_SECONDS)
            assert (name, status) == (name, 0)
            assert time.monotonic() - asked_at < GRACE_SECONDS
            await calm.start(name)
        await something_is_published(calm)

    await systems.require_clean_audit(calm)


async def test_an_enricher_that_fell_silent_while_writing_changes_nothing_when_it_wakes(calm: System) -> None:
    """P2, I2: when it wakes, its partitions have a new owner, which has published newer versions.

    It was in the middle of both topics: it reads old snapshots together with changes.
    """
    stale, epochs_before = calm.processes["enrich"], await epochs(calm)
    log_before = stale.log.stat().st_size
    await calm.admin("POST", "/activity", {"rate": LOAD_RATE})
    async with systems.orders_locked(calm):
        await systems.publish_again(calm, systems.registry(calm).snapshots)
        await eventually(lambda: orders_are_being_written(calm))
        stale.signal(SIGSTOP)
    try:
        successor = await calm.group.start("enrich-2", calm.command("enrich"), env=calm.environment)
        await eventually(lambda: all_are_taken_over(calm, epochs_before), within_seconds=60)
        await something_is_published(calm)
        await calm.admin("POST", "/activity", {"rate": 0})
        await eventually(lambda: nothing_is_left_to_do(calm))
    finally:
        stale.signal(SIGCONT)

    await eventually(lambda: has_noticed_its_loss(stale, log_before))
    # If it committed offsets now, finished work would come back.
    assert await nothing_is_left_to_do(calm)
    await systems.require_clean_audit(calm)
    for enricher in (successor, stale):
        assert await enricher.stop(GRACE_SECONDS) == 0
    await calm.start("enrich")


def kafka_process(system: System) -> ManagedProcess:
    assert system.servers.kafka
    return system.servers.kafka.process


async def a_seller(system: System) -> int:
    seller, *_ = await systems.seller_ids(system)
    return seller


def tids(changed: list[Changed]) -> set[int]:
    return {each.tid for each in changed}


async def all_are_in_pushs_hands(system: System, before: dict[str, int]) -> int:
    """Wait until push has everything that was published since; returns the number of messages."""
    messages = (await systems.channel(system))["published"] - before["published"]
    assert messages >= ORDERS

    async def delivered() -> bool:
        books = await systems.channel(system)
        gone_out = books["in_flight"] + books["confirmed"] - before["in_flight"] - before["confirmed"]
        return gone_out >= messages

    await eventually(delivered)
    return messages


async def confirmed(system: System, count: int) -> bool:
    return (await systems.channel(system))["confirmed"] == count


async def pushed(system: System) -> set[int]:
    return {int(hint["tid"]) for hint in await systems.changes(system) if hint["source"] == "push"}


async def platform_is_past(system: System, moment: datetime) -> bool:
    return await systems.platform_now(system) > moment


async def are_stored(system: System, changed: list[Changed]) -> bool:
    return await systems.stored(system, changed) == len(changed)


async def is_hinted(system: System, changed: Changed) -> bool:
    return any(int(hint["tid"]) == changed.tid for hint in await systems.changes(system))


async def is_claimed(system: System, seller_id: int, changed: Changed, *, claimed: bool) -> bool:
    covered = await systems.value(
        system,
        "select proven @> $2::timestamptz from coverage where seller_id = $1",
        seller_id,
        changed.modified,
    )
    return bool(covered) is claimed


async def something_is_published(system: System) -> None:
    """Wait until the enrichers work on current changes."""
    query = "select sum(published_revision) from orders"
    before = await systems.value(system, query)

    async def more() -> bool:
        return bool(await systems.value(system, query) > before + LOAD_RATE)

    await eventually(more)


async def orders_are_being_written(system: System) -> bool:
    """Whether a statement waits for the lock; the partitions of a process share the statement."""
    return await systems.waiting_upserts(system) > 0


async def epochs(system: System) -> dict[int, int]:
    owners = await systems.rows(system, "select partition, epoch from partition_owners")
    return {owner["partition"]: owner["epoch"] for owner in owners}


async def all_are_taken_over(system: System, before: dict[int, int]) -> bool:
    now = await epochs(system)
    return all(now[partition] > epoch for partition, epoch in before.items())


async def nothing_is_left_to_do(system: System) -> bool:
    topics = systems.registry(system)
    return not [topic for topic in (topics.changes, topics.snapshots) if await systems.unread(system, topic)]


async def has_noticed_its_loss(process: ManagedProcess, log_before: int) -> bool:
    """Whether it has tried to publish and was fenced, or has learnt it from the group before."""
    logged = process.log.read_bytes()[log_before:]
    return b"FencedError" in logged or b"partitions let go" in logged
