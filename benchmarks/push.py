"""From a frame of the message channel to a durable record in Kafka to its confirm, in one process."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol

import structlog
from aiokafka import TopicPartition
from pydantic import SecretStr

from benchmarks import channel_source
from benchmarks.report import Report, Row
from consumer.push.service import PushService
from topsync.base.clock import ServerClock
from topsync.base.garbage import calm_collector
from topsync.base.service import Lifetime
from topsync.base.settings import DatabaseSettings, KafkaSettings
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.servers import Servers, local_servers
from topsync.platforms.taobao.channel.config import ConnectionConfig
from topsync.platforms.taobao.channel.connection import ChannelConnection
from topsync.platforms.taobao.messages import TaobaoMessages
from topsync.store import database, schema
from topsync.store.database import Pool
from topsync.stream import clients, topic_admin, topics
from topsync.stream.topics import Registry, TopicsError

MESSAGES: Final = 100_000
WARM_UP_MESSAGES: Final = 30_000
"""Until the broker's just-in-time compiler has seen the measured path."""

TARGET_PER_SECOND: Final = 30_000
TARGET_MICROSECONDS: Final = 30
MODERATE_PER_SECOND: Final = 2_000
MODERATE_MESSAGES: Final = 10_000
LOW_PER_SECOND: Final = 200
LOW_MESSAGES: Final = 2_000
"""Here a message costs what its wake-ups and requests cost, and not what reading it does."""

PARTITIONS: Final = 12
"""The product's default."""

BOUND_SECONDS: Final = 60.0
"""No wait, apart from the measurement itself, may take longer."""

SETUP: Final = (
    "Three processes on these cores: a source that pushes messages rendered beforehand over the real channel "
    "and TCP, as fast as push takes them (`benchmarks/channel_source.py`); the push service, on uvloop as in "
    "production, with its journal in an embedded PostgreSQL; and an embedded Kafka (one broker, so acks=all "
    f"is one replica; {PARTITIONS} partitions). Measured at the source, from the first frame written to the "
    f"last confirm received, after {WARM_UP_MESSAGES:,} messages to warm up. The source checks that each id "
    "was confirmed exactly once, and `changes` is read back and holds each order exactly once. The baseline "
    "is the same connection confirming each message at once, with nothing stored. Waits at a limited rate "
    f"are those after the first {channel_source.SETTLING_SECONDS:g} s, in which the producer starts."
)


@dataclass(frozen=True, slots=True)
class Measured:
    """The source's results of a run, and the time that the run took of this process."""

    messages: int
    seconds: float
    p50_seconds: float
    p99_seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.messages / self.seconds


async def run() -> Report:
    """Measure and check."""
    calm_collector()  # as `service.run` does
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    async with ProcessGroup(run_folders.create()) as group, local_servers(group) as servers:
        async with _database(servers) as pool:
            await _stored(servers, pool, "warm", WARM_UP_MESSAGES)
            stored = await _stored(servers, pool, "full", MESSAGES)
            moderate = await _stored(servers, pool, "moderate", MODERATE_MESSAGES, rate=MODERATE_PER_SECOND)
            low = await _stored(servers, pool, "low", LOW_MESSAGES, rate=LOW_PER_SECOND)
        alone = await _measured(MESSAGES, None, _only_confirming)
    return Report("push", SETUP, _rows(stored, alone, moderate, low))


@asynccontextmanager
async def loaded(group: ProcessGroup, messages: int) -> AsyncIterator[Callable[[], Awaitable[Measured]]]:
    """A load of so many messages on this process, which has warmed up."""
    calm_collector()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    async with local_servers(group) as servers, _database(servers) as pool:
        await _stored(servers, pool, "warm", WARM_UP_MESSAGES)
        yield partial(_stored, servers, pool, "full", messages)


def _rows(stored: Measured, alone: Measured, moderate: Measured, low: Measured) -> list[Row]:
    at_rate = f"from frame to confirm at {MODERATE_PER_SECOND:,}/s"
    of_push = "processor time of the push process for each message"
    return [
        Row(
            what=f"durable and confirmed, {MESSAGES:,} messages",
            value=stored.per_second,
            unit="/s",
            at_least=TARGET_PER_SECOND,
        ),
        Row(what="received and confirmed, nothing stored", value=alone.per_second, unit="/s"),
        Row(what="ratio of the two", value=stored.per_second / alone.per_second, unit="", digits=2),
        Row(
            what=of_push,
            value=stored.cpu_seconds / MESSAGES * 1e6,
            unit="µs",
            at_most=TARGET_MICROSECONDS,
        ),
        Row(what=f"{of_push} at {LOW_PER_SECOND}/s", value=low.cpu_seconds / LOW_MESSAGES * 1e6, unit="µs"),
        Row(what=f"{at_rate}, median", value=moderate.p50_seconds * 1000, unit="ms", digits=1),
        Row(what=f"{at_rate}, p99", value=moderate.p99_seconds * 1000, unit="ms", digits=1),
    ]


# The measured clients: context managers that connect to an address and confirm until their end


@asynccontextmanager
async def _only_confirming(uri: str) -> AsyncIterator[None]:
    connection = ChannelConnection(_config(uri), _clock(), lambda _: None)

    async def confirm_all() -> None:
        async for deliveries in connection.deliveries():
            connection.confirm(deliveries)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.run())
        tasks.create_task(confirm_all())
        yield
        await connection.leave()


async def _stored(
    servers: Servers, pool: Pool, name: str, messages: int, *, rate: float | None = None
) -> Measured:
    """A run with everything that the product does, into new topics, which are then read back."""
    kafka = KafkaSettings(
        kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
        topic_prefix=name,
        partitions=PARTITIONS,
        replication_factor=1,
    )
    registry = await _topics(kafka)

    @asynccontextmanager
    async def pushing(uri: str) -> AsyncIterator[None]:
        service = PushService(
            messages=TaobaoMessages(_config(uri), _clock()),
            kafka=kafka,
            topics=registry,
            pool=pool,
            detail_lag=timedelta(seconds=1),
            proof_interval_seconds=1,
        )
        lifetime = Lifetime()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run(lifetime))
            yield
            lifetime.stop()

    measured = await _measured(messages, rate, pushing)
    await _check(kafka, registry, messages)
    return measured


async def _measured(messages: int, rate: float | None, client: _Client) -> Measured:
    """Let a source push to the client, and return its results.

    Raises:
        RuntimeError: not every message was confirmed exactly once.
    """
    arguments = [str(messages)] if rate is None else [str(messages), "--rate", str(rate)]
    source = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.channel_source", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert source.stdout is not None
    try:
        port = int(await source.stdout.readline())
        began = time.process_time()
        async with client(f"ws://127.0.0.1:{port}/"):
            line = await source.stdout.readline()
            cpu_seconds = time.process_time() - began
        found = json.loads(line)
        await source.wait()
    finally:
        if source.returncode is None:
            source.kill()
    if not found["exactly_once"]:
        raise RuntimeError("not every message was confirmed exactly once")
    return Measured(messages, found["seconds"], found["p50_seconds"], found["p99_seconds"], cpu_seconds)


class _Client(Protocol):
    def __call__(self, uri: str) -> AbstractAsyncContextManager[None]: ...


async def _check(kafka: KafkaSettings, registry: Registry, messages: int) -> None:
    """Check that `changes` holds each order exactly once, and nothing else.

    Raises:
        RuntimeError: `changes` holds something else.
    """
    async with clients.reader(kafka) as consumer:
        partitions = [TopicPartition(registry.changes.name, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        total = sum((await consumer.end_offsets(partitions)).values())
        found: set[int] = set()
        read = 0
        async with asyncio.timeout(BOUND_SECONDS):
            while read < total:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    read += len(records)
                    found.update(int(record.key) for record in records)
    if total != messages or found != set(channel_source.tids(messages)):
        raise RuntimeError(f"changes holds {total} records about {len(found)} orders, not {messages}")


@asynccontextmanager
async def _database(servers: Servers) -> AsyncIterator[Pool]:
    own = DatabaseSettings(database_url=SecretStr(servers.database_url))
    await schema.migrate(own)
    async with database.connect(own) as pool:
        yield pool


async def _topics(kafka: KafkaSettings) -> Registry:
    await topic_admin.apply(kafka)
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            try:
                return await topics.require(kafka)
            except TopicsError:
                await asyncio.sleep(0.1)


def _config(uri: str) -> ConnectionConfig:
    return ConnectionConfig(uri=uri, app_key="12345678", app_secret=SecretStr("secret"))


def _clock() -> ServerClock:
    clock = ServerClock()
    moment = clock.monotonic()
    clock.observe(datetime.now(UTC), sent=moment, received=moment)
    return clock
