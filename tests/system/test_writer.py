"""P2, P4: one order's way through an enricher: older never follows newer, and what is stored is published.

A whole enricher runs in the test, on real servers, against the simulated platform.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
import pytest

from consumer.batches import Batch, BatchReader
from consumer.enricher import Enricher
from consumer.refunds import RefundReader
from consumer.room import Room
from consumer.writer import PartitionWriter, Tools
from schemas import cloud_events, platform_time
from schemas.trade import Trade
from tests.stream.clusters import create_topics
from tests.support import systems
from tests.support.eventually import eventually
from topsync import processes, runtime, settings
from topsync.sellers.sessions import Sessions
from topsync.service import Lifetime
from topsync.settings import DatabaseSettings, EnricherSettings, KafkaSettings, VaultSettings
from topsync.simulator.server import Simulator
from topsync.simulator.settings import SimulatorSettings
from topsync.store import database, orders, sellers
from topsync.store.database import Pool
from topsync.store.orders import NotOwnerError, Version
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.ownership import Member
from topsync.stream.producer import FencedError
from topsync.stream.records import Record
from topsync.stream.topics import Registry
from topsync.vault import Vault, new_key

SELLER = 2_000_000_001
TID, LAST_TID = 4_000_000_000_000_000_001, 4_000_000_000_000_000_002
TEN_O_CLOCK = datetime(2026, 11, 20, 10, tzinfo=platform_time.CHINA)
ONE_PARTITION = 0
BOUND_SECONDS = 5.0
"""Shorter than a fenced writer stays away before it comes back."""


@dataclass(frozen=True)
class Installation:
    """One partition, one seller, no enricher yet."""

    pool: Pool
    kafka: KafkaSettings
    topics: Registry


@pytest.fixture
async def installation(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Installation]:
    async with Simulator(SimulatorSettings(sellers=1, orders=0)) as platform:
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
            "TOPSYNC_PARTITIONS": "1",
            "TOPSYNC_REPLICATION_FACTOR": "1",
            "TOPSYNC_DATABASE_URL": database_url,
            "TOPSYNC_APP_KEY": platform.settings.app_key,
            "TOPSYNC_APP_SECRET": platform.settings.app_secret,
            "TOPSYNC_GATEWAY_URL": platform.addresses.gateway_url,
            "TOPSYNC_TOKEN_KEYS": new_key(),
            # Each record is a batch of its own: nothing is weighed against each other before the table.
            "TOPSYNC_ENRICHER_BATCH_SNAPSHOTS": "1",
            **systems.apart(topic_prefix),
        }
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        kafka = settings.load(KafkaSettings)
        async with database.connect(settings.load(DatabaseSettings)) as pool:
            await database.migrate(pool)
            await sellers.add(pool, seller_id=SELLER, nick="a seller", session_cipher=b"")
            yield Installation(pool, kafka, await create_topics(kafka))
    # A fenced producer of aiokafka leaves failed futures behind. Python complains when it collects them, and
    # must not do so in the middle of compiling a module, which Python 3.11 does not survive.
    gc.collect()


@asynccontextmanager
async def enricher() -> AsyncIterator[None]:
    """An enricher like the one that `topsync enrich` runs."""
    lifetime = Lifetime()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(processes.enrich(lifetime))
        yield
        lifetime.stop()


async def test_an_older_version_never_follows_a_newer_one(installation: Installation) -> None:
    """P2, I2: the higher `modified` wins; of equal ones with other content, the one fetched later."""
    arriving = [
        snapshot(installation, "first", modified=5, fetched=10),
        snapshot(installation, "older", modified=4, fetched=20),
        snapshot(installation, "as old, but fetched before", modified=5, fetched=9),
        snapshot(installation, "as old, but fetched later", modified=5, fetched=11),
        snapshot(installation, "as old, and fetched before that", modified=5, fetched=10),
        snapshot(installation, "newer, though fetched before", modified=6, fetched=8),
        snapshot(installation, "older", modified=5, fetched=30),
        snapshot(installation, "the last one", tid=LAST_TID, modified=0, fetched=0),
    ]
    async with producers.idempotent(installation.kafka) as producer:
        await producer.publish(arriving)

    async with enricher():
        await eventually(lambda: is_published(installation, LAST_TID))

    winners = ["first", "as old, but fetched later", "newer, though fetched before"]
    assert [(revision, trade.title) for revision, trade in await published(installation, TID)] == list(
        enumerate(winners, start=1)
    )
    stored = await installation.pool.fetchval("select trade->>'title' from orders where tid = $1", TID)
    assert stored == winners[-1]


async def test_what_a_crash_left_between_table_and_topic_is_published_by_the_next_owner(
    installation: Installation,
) -> None:
    """P4: nothing leads to the order any more, no hint and no snapshot; only the table knows."""
    epoch = await orders.take_over(installation.pool, ONE_PARTITION, "an enricher that dies")
    dying = Version(SELLER, Trade.from_platform(trade("left behind", TID, modified=5)), at(10), "push")
    await orders.upsert(installation.pool, [dying], partition=ONE_PARTITION, epoch=epoch)

    async with enricher():
        await eventually(lambda: is_published(installation, TID))
        await eventually(lambda: nothing_is_unpublished(installation))

    assert [found.title for _, found in await published(installation, TID)] == ["left behind"]
    assert await told(installation, TID) == ["created,paid,shipped,finished"]


async def test_a_writer_whose_partition_was_taken_over_neither_stores_nor_publishes(
    installation: Installation,
) -> None:
    """P2: its epoch keeps it from the table, its transactional id from the topic."""
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(taking_over(installation))
        before = batch_of("before", modified=5)
        await old.store(before)
        await old.publish(before, {})
        new = await stack.enter_async_context(taking_over(installation))

        with pytest.raises(NotOwnerError):
            await old.store(batch_of("of the old owner", modified=7))
        assert await nothing_is_unpublished(installation)

        # What the new owner has stored and is about to publish is unpublished for the old one, too.
        after = batch_of("after", modified=6)
        await new.store(after)
        with pytest.raises(FencedError):
            await old.publish(after, {})
        assert [found.title for _, found in await published(installation, TID)] == ["before"]

        await new.publish(after, {})
        assert [found.title for _, found in await published(installation, TID)] == ["before", "after"]


async def test_a_writer_that_fails_while_it_is_let_go_does_not_come_back(installation: Installation) -> None:
    """P2: the task group swallows the cancellation then; the partition would have two owners for good."""
    async with a_process(installation, FailsWhenCancelled) as process:
        lifetime = Lifetime()
        running = asyncio.create_task(process.run(lifetime))
        await eventually(lambda: has_an_owner(installation))

        lifetime.stop()
        async with asyncio.timeout(BOUND_SECONDS):
            await running


class FailsWhenCancelled(Enricher):
    """Learns that it is fenced at the moment at which it is told to let go."""

    async def _write(self, partition: int, member: Member) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._be_fenced_when_cancelled(partition))

    async def _be_fenced_when_cancelled(self, partition: int) -> None:
        await orders.take_over(self.tools.pool, partition, self.owner)
        try:
            await asyncio.Event().wait()
        finally:
            raise FencedError("another process has taken this partition over")


async def has_an_owner(installation: Installation) -> bool:
    return bool(await installation.pool.fetchval("select count(*) from partition_owners"))


@asynccontextmanager
async def a_process(installation: Installation, kind: type[Enricher] = Enricher) -> AsyncIterator[Enricher]:
    """An enricher that does nothing by itself."""
    pool, topics = installation.pool, installation.topics
    sessions = Sessions(pool, Vault(settings.load(VaultSettings)))
    async with runtime.open_gateway(pool) as (client, clock):
        of_refunds = RefundReader(pool, client, clock, sessions, topics, enabled=True)
        reader = BatchReader(pool, client, clock, sessions, topics, of_refunds)
        own = settings.load(EnricherSettings)
        tools = Tools(topics, clock, pool, reader, Room(own.enricher_max_bytes))
        yield kind(own, installation.kafka, tools, owner="a test")


@asynccontextmanager
async def taking_over(installation: Installation) -> AsyncIterator[PartitionWriter]:
    """A new owner of the partition: first the epoch, then the transactional id, as an enricher does it."""
    async with a_process(installation) as process:
        epoch = await orders.take_over(installation.pool, ONE_PARTITION, process.owner)
        async with producers.partition_publisher(
            installation.kafka,
            group=process.settings.enricher_group,
            partition=ONE_PARTITION,
            spacing_seconds=0,
        ) as publisher:
            yield PartitionWriter(process.tools, ONE_PARTITION, epoch, publisher)


def batch_of(title: str, *, modified: int) -> Batch:
    batch = Batch()
    version = Version(SELLER, Trade.from_platform(trade(title, TID, modified=modified)), at(10), "push")
    batch.add(version)
    return batch


def at(second: int) -> datetime:
    return TEN_O_CLOCK + timedelta(seconds=second)


def trade(title: str, tid: int, *, modified: int) -> dict[str, object]:
    """A trade as the platform writes it; `modified` in seconds after ten o'clock."""
    return {
        "tid": tid,
        "status": "TRADE_FINISHED",
        "created": platform_time.format(TEN_O_CLOCK - timedelta(days=1)),
        "modified": platform_time.format(at(modified)),
        "title": title,
    }


def snapshot(
    installation: Installation, title: str, *, modified: int, fetched: int, tid: int = TID
) -> Record:
    return records.snapshot(
        installation.topics.snapshots.name,
        tid=tid,
        seller_id=SELLER,
        as_of=at(fetched),
        reason="a test",
        trade=orjson.dumps(trade(title, tid, modified=modified)),
    )


async def published(installation: Installation, tid: int) -> list[tuple[int, Trade]]:
    """What a subscriber has seen of an order: revision and content, in order."""
    found = await systems.records(installation.kafka, installation.topics.orders)
    return [
        (int(cloud_events.attributes(record.headers)["revision"]), Trade.from_wire(record.value))
        for record in found
        if record.key == records.key_of(tid)
    ]


async def told(installation: Installation, tid: int) -> list[str]:
    """What a subscriber has been told to have happened to an order, version by version."""
    found = await systems.records(installation.kafka, installation.topics.orders)
    return [
        cloud_events.attributes(record.headers)["transitions"]
        for record in found
        if record.key == records.key_of(tid)
    ]


async def is_published(installation: Installation, tid: int) -> bool:
    return bool(await published(installation, tid))


async def nothing_is_unpublished(installation: Installation) -> bool:
    return not await orders.all_unpublished(installation.pool)
