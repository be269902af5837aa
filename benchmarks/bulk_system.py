"""A system whose sellers have a finished export: what the benchmarks of the bulk start begin with."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import httpx
from aiokafka import TopicPartition
from pydantic import SecretStr

from benchmarks import gateway, usage
from benchmarks.gateway import Gateway
from schemas import platform_time
from topsync.base.settings import BootstrapSettings, KafkaSettings
from topsync.local import run_folders
from topsync.local.ports import free_port
from topsync.local.processes import ManagedProcess, ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.platforms.export_port import ExportAccepted, ExportReady, ExportUnfinished
from topsync.platforms.taobao.export import TaobaoExport
from topsync.platforms.taobao.gateway.download import DownloadConfig
from topsync.platforms.taobao.sessions import TaobaoSubscriptions
from topsync.stream import clients, topics

SELLERS: Final = 3
"""They start at the same time."""

PARTITIONS: Final = 4

READY_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 0.5
READ_SECONDS: Final = 1800.0
LOADED_SECONDS: Final = 3600.0
"""The longest that a million orders may take."""

SERVERS: Final = ("postgres", "kafka", "simulate")
OURS: Final = ("bootstrap", "enrich", "push")

if TYPE_CHECKING:
    Database = asyncpg.Connection[asyncpg.Record]

Times = Mapping[str, float]
"""Processor seconds by process."""


@dataclass(slots=True)
class Progress:
    """How far a bulk start is; the times are on the clock of `time.time`."""

    began_at: float
    loaded_at: float | None = None
    """When all exported orders were published."""
    processor_seconds: Times = field(default_factory=dict)
    """Until then, of each process."""
    peaks: dict[str, usage.Peak] = field(default_factory=dict)
    seconds_until_live: float | None = None
    """None: that was not waited for."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What table and topic have after a bulk start."""

    orders: int
    first_line_at: float
    """When the first order was in `snapshots`."""
    last_order_at: float
    """When the last exported order was in `orders`."""


@dataclass(frozen=True, slots=True)
class BulkSystem:
    """A running system; `sellers` have a finished export, `others` send messages without a bulk start."""

    system: System
    sellers: Sequence[Mapping[str, Any]]
    others: Sequence[Mapping[str, Any]]
    tasks: Sequence[int]
    """The sellers' exports."""
    metrics_port: int

    async def start(self) -> None:
        """Start push and the enricher; returns when the enricher does its work."""
        await self.system.start("push")
        await self.system.start("enrich", {"TOPSYNC_TELEMETRY_PORT": str(self.metrics_port)})
        async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(READY_SECONDS):
            while True:
                self.system.require_running()
                with suppress(httpx.TransportError):
                    ready = await client.get(f"http://127.0.0.1:{self.metrics_port}/readyz")
                    if ready.is_success:
                        return
                await asyncio.sleep(POLL_SECONDS)

    async def export_files(self, folder: Path) -> list[Path]:
        """The sellers' export files, downloaded."""
        paths = []
        async with _export(self.system) as export:
            for task in self.tasks:
                ready = await _finished(export, task)
                path = folder / f"export-{task}.zip"
                size = await export.download(ready, path)
                assert isinstance(size, int), size
                paths.append(path)
        return paths

    async def load(
        self,
        *,
        until_live: bool = True,
        began: Callable[[ManagedProcess], Awaitable[None]] | None = None,
    ) -> Progress:
        """Bulk start the sellers that have an export.

        Args:
            until_live: otherwise it is stopped when all exported orders are published.
            began: called with the process of the bulk start when it has begun.

        Raises:
            ProcessFailedError: it failed.
        """
        before = self._processor_seconds()
        named = [f"--seller={seller['user_id']}" for seller in self.sellers]
        process = await self.system.group.start(
            "bootstrap", self.system.command("bootstrap", *named), env=self.system.environment
        )
        progress = Progress(time.time())
        self.system.processes["bootstrap"] = process
        if began is not None:
            await began(process)
        progress.peaks = {name: usage.Peak(self.system.processes[name].pid) for name in OURS}
        async with asyncio.timeout(LOADED_SECONDS), self.watching() as is_loaded:
            look_at = 0.0
            while not usage.has_ended(process.pid) and (until_live or progress.loaded_at is None):
                for peak in progress.peaks.values():
                    peak.look()
                if progress.loaded_at is None and time.time() >= look_at:
                    if await is_loaded():
                        progress.loaded_at = time.time()
                        progress.processor_seconds = _less(self._processor_seconds(), before)
                    look_at = time.time() + LOOK_SECONDS
                await asyncio.sleep(POLL_SECONDS)
        if not until_live:
            await process.stop()
        elif await process.wait():
            raise process.failure("ended in failure")
        else:
            progress.seconds_until_live = time.time() - progress.began_at
        del self.system.processes["bootstrap"]
        self.system.require_running()
        assert progress.loaded_at is not None, "the orders were published unseen"
        return progress

    async def check(self) -> Checked:
        """Check that table and topic have each exported order.

        Raises:
            AssertionError: an order is missing.
        """
        async with self._connection() as database:
            exported = {
                row["id"] for row in await database.fetch("select id from slice_rows where order_id is null")
            }
            stored = await database.fetchval(
                "select count(*) from slice_rows join orders on tid = id where order_id is null"
            )
        assert stored == len(exported), f"{len(exported) - stored} exported orders are not in the table"
        first_line_at, last_order_at = float("inf"), 0.0
        missing = set(exported)
        kafka = KafkaSettings(
            kafka_bootstrap_servers=self.system.environment["KAFKA_BOOTSTRAP_SERVERS"], partitions=PARTITIONS
        )
        registry = topics.registry(kafka)
        async with clients.reader(kafka) as consumer, asyncio.timeout(READ_SECONDS):
            for name in (registry.snapshots.name, registry.orders.name):
                partitions = [TopicPartition(name, number) for number in range(PARTITIONS)]
                consumer.assign(partitions)
                await consumer.seek_to_beginning(*partitions)
                ends = await consumer.end_offsets(partitions)
                while [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        if name == registry.snapshots.name:
                            first_line_at = min(first_line_at, records[0].timestamp / 1000)
                            continue
                        for record in records:
                            if (tid := int(record.key)) in missing:
                                missing.remove(tid)
                                last_order_at = max(last_order_at, record.timestamp / 1000)
        assert not missing, f"{len(missing)} exported orders are not in the topic"
        return Checked(len(exported), first_line_at, last_order_at)

    async def until_loaded(self, loading: asyncio.Task[Progress]) -> None:
        """Wait until all exported orders are published; at the latest until `load` has ended."""
        async with self.watching() as is_loaded:
            while not loading.done() and not await is_loaded():  # noqa: ASYNC110 -- elsewhere
                await asyncio.sleep(LOOK_SECONDS)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        """A question: are all lines of all files published as orders?"""
        async with self._connection() as database:
            yield partial(self._is_loaded, database)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Database]:
        connection = await asyncpg.connect(self.system.environment["TOPSYNC_DATABASE_URL"])
        try:
            yield connection
        finally:
            await connection.close()

    async def _is_loaded(self, database: Database) -> bool:
        slices = await database.fetch("select state, lines from export_slices where kind = 'order'")
        if len(slices) < len(self.sellers) or {row["state"] for row in slices} - {"loaded", "stored"}:
            return False
        return await self._published() >= float(sum(row["lines"] for row in slices))

    async def _published(self) -> float:
        """The orders that the enricher has published."""
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"http://127.0.0.1:{self.metrics_port}/metrics")).text
        found = re.search(r"^topsync_orders_published_total (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def _processor_seconds(self) -> dict[str, float]:
        servers, processes = self.system.servers, dict(self.system.processes)
        assert servers.postgres is not None
        assert servers.kafka is not None
        processes |= {"postgres": servers.postgres.process, "kafka": servers.kafka.process}
        return {
            name: usage.processor_seconds(processes[name].pid)
            for name in (*OURS, *SERVERS)
            if name in processes
        }


@asynccontextmanager
async def bulk_system(orders: int, *, others: int = 0) -> AsyncIterator[BulkSystem]:
    """A system with so many orders of three sellers, exported to files; the caller starts the services.

    A few of them are younger than the export: those of today. So many `others` are sellers as well.
    """
    port = free_port()
    settings = {
        "TOPSYNC_PARTITIONS": str(PARTITIONS),
        "TOPSYNC_CALLS_PER_SECOND": "10000",
        "TOPSYNC_CALLS_IN_FLIGHT": "64",
        # One file for each seller, which is made before the clock starts.
        "TOPSYNC_SLICE_ORDERS": str(orders),
    }
    # The platform gives each seller as many orders as the others.
    scale = Scale(sellers=SELLERS + others, orders=orders * (SELLERS + others) // SELLERS, rate=0)
    async with (
        ProcessGroup(run_folders.create()) as group,
        local_system(group, scale, settings=settings) as system,
    ):
        everybody: Any = await system.admin("GET", "/sellers")
        exported, not_exported = everybody[:SELLERS], everybody[SELLERS:]
        async with _export(system) as export:
            for seller in not_exported:
                session = SecretStr(seller["session"])
                await TaobaoSubscriptions(export.client).subscribe(session, priority=Priority.BOOTSTRAP)
            tasks = [await _request(export, seller, Kind.ORDER) for seller in exported]
            # Made beforehand as well: the platform's work is not to compete with ours for these cores.
            for task in tasks + [await _request(export, seller, Kind.REFUND) for seller in exported]:
                await _finished(export, task)
        yield BulkSystem(system, exported, not_exported, tasks, port)


@asynccontextmanager
async def _export(system: System) -> AsyncIterator[TaobaoExport]:
    async with gateway.open_client(
        Gateway(system.environment["TOPSYNC_GATEWAY_URL"], ()), in_flight=1
    ) as client:
        hosts = frozenset({system.environment["TOPSYNC_DOWNLOAD_HOSTS"]})
        yield TaobaoExport(client, DownloadConfig(allowed_hosts=hosts), max_ratio=1000)


async def _request(export: TaobaoExport, seller: Mapping[str, Any], kind: Kind) -> int:
    """Ask for a seller's export as a bulk start does, which will adopt it; returns the task."""
    today = platform_time.day_of(datetime.now(UTC))
    days: int = BootstrapSettings.model_fields["export_days"].default
    first, last = today - timedelta(days=days), today - timedelta(days=1)
    session = SecretStr(seller["session"])
    task = await export.request(kind, session, first, last, failed_before=0, known_tasks=())
    assert isinstance(task, ExportAccepted), task
    return task.task_id


async def _finished(export: TaobaoExport, task: int) -> ExportReady:
    """A finished export, with a new address."""
    while isinstance(state := await export.state(task), ExportUnfinished):  # noqa: ASYNC110 -- elsewhere
        await asyncio.sleep(LOOK_SECONDS)
    assert isinstance(state, ExportReady), state
    return state


def _less(after: Times, before: Times) -> dict[str, float]:
    return {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
