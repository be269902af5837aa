"""What an installation takes besides processor time: bytes in the topics, memory, connections.

Two whole systems are started, a small and a large: what grows from one to the other is an order's, or a
partition's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from benchmarks import usage
from benchmarks.report import Report, Row
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system

FEW_ORDERS, MANY_ORDERS = 2_000, 12_000
FEW_PARTITIONS, MANY_PARTITIONS = 4, 36
SELLERS: Final = 3
RATE: Final = 20
LIVE_SECONDS: Final = 15.0
"""How long orders change one by one, so that each is a transaction, or nearly."""

BOUND_SECONDS: Final = 120.0
SETTLE_SECONDS: Final = 3.0
PROCESSES: Final = ("push", "enrich", "reconcile", "witness")

ESTABLISHED: Final = "01"
"""In `/proc/net/tcp`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A system after its bulk start, and some changes."""

    orders: int
    megabytes: Mapping[str, float]
    """The most memory that each process has had."""
    to_database: Mapping[str, int]
    """Connections of each process."""
    to_kafka: Mapping[str, int]
    bulk_bytes: float
    """A record of `orders` in Kafka, of those that the bulk start brought."""
    live_bytes: float
    """Likewise, of those that changed one by one; with the marker of its transaction."""


async def run() -> Report:
    small = await _look(FEW_ORDERS, FEW_PARTITIONS)
    large = await _look(MANY_ORDERS, MANY_PARTITIONS)
    orders, partitions = large.orders - small.orders, MANY_PARTITIONS - FEW_PARTITIONS
    rows = [
        Row(what="a record of `orders` in Kafka, of a bulk start", value=small.bulk_bytes, unit="bytes"),
        Row(what="a record of `orders` in Kafka, of a single change", value=small.live_bytes, unit="bytes"),
    ]
    for size, seen in (("small", small), ("large", large)):
        rows += [
            Row(what=f"{size}: memory of {name}", value=seen.megabytes[name], unit="MB") for name in PROCESSES
        ]
        rows += [
            Row(what=f"{size}: connections of {name} to PostgreSQL", value=seen.to_database[name], unit="")
            for name in PROCESSES
        ]
        rows += [
            Row(what=f"{size}: connections of {name} to the broker", value=seen.to_kafka[name], unit="")
            for name in PROCESSES
        ]
    grown = {name: large.megabytes[name] - small.megabytes[name] for name in PROCESSES}
    rows += [
        Row(what="memory of witness for an order more", value=grown["witness"] * 1e6 / orders, unit="bytes"),
        Row(
            what="memory of enrich for a partition more, at most",
            value=grown["enrich"] / partitions,
            unit="MB",
            digits=1,
        ),
        Row(
            what="connections of enrich to the broker for a partition more",
            value=(large.to_kafka["enrich"] - small.to_kafka["enrich"]) / partitions,
            unit="",
            digits=1,
        ),
    ]
    return Report(
        "footprint",
        f"The whole system as processes on these cores, {SELLERS} sellers, one enricher. *Small*: "
        f"{FEW_ORDERS:,} orders, {FEW_PARTITIONS} partitions. *Large*: {MANY_ORDERS:,} orders, "
        f"{MANY_PARTITIONS} partitions. After the bulk start, orders change {RATE} times a second for "
        f"{LIVE_SECONDS:g} s. Memory is the most that a process has had (`VmHWM`). What an order or partition"
        " takes is what the large has more than the small; of an enricher, all of it is counted as the "
        "partitions'. Bytes in Kafka are those of the segments of one replica, before compaction, with the "
        "markers of transactions. Connections are those that are open at the end.",
        rows,
    )


async def _look(orders: int, partitions: int) -> Seen:
    async with (
        ProcessGroup(run_folders.create()) as group,
        local_system(
            group,
            Scale(sellers=SELLERS, orders=orders, rate=0),
            settings={"TOPSYNC_PARTITIONS": str(partitions)},
            servers_environment={},
        ) as system,
    ):
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap", timeout_seconds=600.0)
        await _all_published(system)
        stored, bulk = await _records(system), _bytes(group.folder)
        await system.admin("POST", "/activity", {"rate": RATE})
        await asyncio.sleep(LIVE_SECONDS)
        await system.admin("POST", "/activity", {"rate": 0})
        await asyncio.sleep(SETTLE_SECONDS)
        await _all_published(system)
        changed = await _records(system) - stored
        return Seen(
            orders=await _value(system, "select count(*) from orders"),
            megabytes={name: usage.peak_megabytes(system.processes[name].pid) for name in PROCESSES},
            to_database=_connections(system, urlsplit(system.servers.database_url).port),
            to_kafka=_connections(system, int(system.servers.kafka_bootstrap_servers.rpartition(":")[2])),
            bulk_bytes=bulk / stored,
            live_bytes=(_bytes(group.folder) - bulk) / changed,
        )


async def _all_published(system: System) -> None:
    unpublished = "select count(*) from orders where published_revision < revision"
    async with asyncio.timeout(BOUND_SECONDS):
        while await _value(system, unpublished):  # noqa: ASYNC110 -- a table has no event
            await asyncio.sleep(0.5)


async def _records(system: System) -> int:
    """How many records `orders` has got: each revision is one."""
    return await _value(system, "select coalesce(sum(published_revision), 0) from orders")


async def _value(system: System, query: str) -> int:
    connection = await asyncpg.connect(system.servers.database_url)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


def _bytes(folder: Path) -> int:
    """What the segments of `orders` have, of all partitions."""
    return sum(file.stat().st_size for file in folder.glob("kafka/logs/taobao.trade.orders.v1-*/*.log"))


def _connections(system: System, port: int | None) -> dict[str, int]:
    """How many connections of each process are open to this port."""
    open_there = {
        fields[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[3] == ESTABLISHED and int(fields[2].rpartition(":")[2], 16) == port
    }
    return {name: len(_sockets(system.processes[name].pid) & open_there) for name in PROCESSES}


def _sockets(process: int) -> set[str]:
    found: set[str] = set()
    for file in Path(f"/proc/{process}/fd").iterdir():
        try:
            target = str(file.readlink())
        except FileNotFoundError:
            continue  # it was closed meanwhile
        if match := re.fullmatch(r"socket:\[(\d+)\]", target):
            found.add(match[1])
    return found
