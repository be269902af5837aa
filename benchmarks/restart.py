"""A rolling restart of three enrichers under load: how often partitions move, and how long each pauses."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import pairwise
from statistics import median

import asyncpg
from aiokafka import TopicPartition

from benchmarks.report import Report, Row
from schemas import cloud_events
from schemas.types import parse_instant
from topsync.base.settings import KafkaSettings
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.stream import clients

INSTANCES = ("enrich-0", "enrich-1", "enrich-2")
PARTITIONS = 6
RATE = 120
"""Changes per second: a change every 50 ms in each partition, which is the precision of a pause."""
STEADY_SECONDS = 3.0
BOUND_SECONDS = 60.0
POLL_SECONDS = 0.05

Owners = dict[int, tuple[str, int]]
"""Name and epoch by partition."""


async def run() -> Report:
    async with (
        ProcessGroup(run_folders.create()) as group,
        local_system(
            group,
            Scale(sellers=2, orders=400, rate=0),
            settings={"TOPSYNC_PARTITIONS": str(PARTITIONS), "TOPSYNC_SESSION_TIMEOUT_SECONDS": "30"},
        ) as system,
    ):
        for name in ("push", "reconcile"):
            await system.start(name)
        for name in INSTANCES:
            await _start(system, name)
        await system.run("bootstrap")
        await system.admin("POST", "/activity", {"rate": RATE})
        await asyncio.sleep(STEADY_SECONDS)
        before, began = await _owners(system), await _published(system)
        for name in INSTANCES:
            await _restart(system, name)
            await asyncio.sleep(STEADY_SECONDS)
        after = await _owners(system)
        pauses = _pauses(await _published(system), {number: len(times) for number, times in began.items()})
    return Report(
        name="restart",
        setup=f"Three enrichers as the manifests set them up, each under its name, with {PARTITIONS} "
        f"partitions and {RATE} changes a second, on one machine with everything else. Each in turn "
        "is asked to end (SIGTERM) and started again at once. The pause of a partition is the longest time "
        "between two of its records in `orders`; most of it is the start of the process. A new pod adds what "
        "the cluster needs to start it. `tests/system/test_fleet.py` holds what is promised.",
        rows=[
            Row(
                what="partitions that went to another enricher",
                value=sum(after[number][0] != owner for number, (owner, _) in before.items()),
                unit="",
                at_most=0,
            ),
            Row(
                what="take-overs of a partition, at most",
                value=max(after[number][1] - epoch for number, (_, epoch) in before.items()),
                unit="",
                at_most=1,
            ),
            Row(what="pause of a partition, median", value=median(pauses), unit="s", digits=1),
            Row(what="pause of a partition, longest", value=max(pauses), unit="s", digits=1),
        ],
    )


async def _start(system: System, name: str) -> None:
    environment = {**system.environment, "TOPSYNC_ENRICHER_INSTANCE_ID": name}
    system.processes[name] = await system.group.start(name, system.command("enrich"), env=environment)


async def _restart(system: System, name: str) -> None:
    mine = {number: epoch for number, (owner, epoch) in (await _owners(system)).items() if owner == name}
    await system.processes[name].stop()
    await _start(system, name)
    async with asyncio.timeout(BOUND_SECONDS):
        while not _all_newer(mine, await _owners(system)):  # noqa: ASYNC110 -- it happens elsewhere
            await asyncio.sleep(POLL_SECONDS)


def _all_newer(epochs: dict[int, int], now: Owners) -> bool:
    return all(now[number][1] > epoch for number, epoch in epochs.items())


async def _owners(system: System) -> Owners:
    connection = await asyncpg.connect(system.environment["TOPSYNC_DATABASE_URL"])
    try:
        rows = await connection.fetch("select partition, owner, epoch from partition_owners")
    finally:
        await connection.close()
    return {row["partition"]: (row["owner"], row["epoch"]) for row in rows}


async def _published(system: System) -> dict[int, list[float]]:
    """When each record of `orders` was published, by partition."""
    kafka = KafkaSettings(kafka_bootstrap_servers=system.environment["KAFKA_BOOTSTRAP_SERVERS"])
    partitions = [TopicPartition("taobao.trade.orders.v1", number) for number in range(PARTITIONS)]
    times: dict[int, list[float]] = defaultdict(list)
    async with clients.reader(kafka) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        for tp in partitions:
            while await consumer.position(tp) < ends[tp]:
                for record in (await consumer.getmany(tp, timeout_ms=100)).get(tp, []):
                    at = parse_instant(cloud_events.attributes(record.headers)["publishedat"])
                    times[tp.partition].append(at.timestamp())
    return times


def _pauses(times: dict[int, list[float]], known: dict[int, int]) -> list[float]:
    """The longest pause of each partition after the known number of records."""
    return [
        max(later - earlier for earlier, later in pairwise(times[number][known[number] - 1 :]))
        for number in known
    ]
