"""The watch notices a compacted topic that has lost records in any way, on a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from tests.store.databases import emptied, version
from tests.stream.clusters import create_topics, gone, make_anew, record, settings_for
from topsync.model.compacted_topic import Reason
from topsync.model.kind import Kind
from topsync.store import compacted_topics, orders
from topsync.store.database import Pool
from topsync.stream import clients, topic_look
from topsync.stream import producer as producers
from topsync.verify.topic_watch import TopicWatch


@pytest.fixture
async def watch(
    kafka_bootstrap_servers: str, topic_prefix: str, migrated_database_url: str
) -> AsyncIterator[TopicWatch]:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2)
    registry = await create_topics(kafka)
    async with emptied(migrated_database_url) as pool:
        yield TopicWatch(pool, kafka, registry)


async def publish(watch: TopicWatch, *keys: str) -> None:
    async with producers.idempotent(watch.kafka) as producer:
        await producer.publish([record(watch.topics.orders.name, key) for key in keys])


async def store_published(pool: Pool, count: int) -> None:
    epoch = await orders.take_over(pool, 0, "test")
    found = [version(tid, 1, 5) for tid in range(1, count + 1)]
    written = await orders.TABLE.upsert(pool, found, partition=0, epoch=epoch)
    await orders.TABLE.mark_published(pool, written.ahead)


async def lost(watch: TopicWatch) -> list[tuple[Kind, Reason]]:
    return [(loss.kind, loss.reason) for loss in await watch.look()]


async def test_a_topic_that_only_grows_is_whole(watch: TopicWatch) -> None:
    for keys in ("ab", "ab", "c"):
        await publish(watch, *keys)
        assert await lost(watch) == []


async def test_a_topic_that_was_made_anew_is_found_even_when_it_is_longer_than_before(
    watch: TopicWatch,
) -> None:
    """Records that the writers publish later must hide nothing."""
    await publish(watch, "a")
    assert await lost(watch) == []
    await make_anew(watch.kafka, watch.topics.orders)
    await publish(watch, *"abcdefgh")
    assert await lost(watch) == [(Kind.ORDER, Reason.MADE_ANEW)]
    (first,) = await compacted_topics.losses(watch.pool)
    assert await watch.look() == [first], "it stays, and is not noticed anew"


async def test_records_deleted_from_the_beginning_are_found(watch: TopicWatch) -> None:
    """As by a retention that somebody has set. Compaction never does it, and of a topic that is compacted
    alone Kafka deletes nothing by hand.
    """
    await publish(watch, *"abcd")
    await watch.look()
    before = (await topic_look.look(watch.kafka, [watch.topics.orders]))[watch.topics.orders.name]
    partition = next(number for number, end in enumerate(before.end_offsets) if end)
    async with clients.admin_client(watch.kafka) as admin:
        resource = ConfigResource(
            ConfigResourceType.TOPIC, watch.topics.orders.name, {"cleanup.policy": "delete"}
        )
        await admin.alter_configs([resource])
        place = TopicPartition(watch.topics.orders.name, partition)
        await admin.delete_records({place: RecordsToDelete(1)})
    assert await lost(watch) == [(Kind.ORDER, Reason.CUT_OFF)]


async def test_a_topic_that_is_gone_is_found_and_never_created_by_the_look(watch: TopicWatch) -> None:
    await watch.look()
    async with clients.admin_client(watch.kafka) as admin:
        await admin.delete_topics([watch.topics.refunds.name])
    await gone(watch.kafka, watch.topics.refunds)
    assert await lost(watch) == [(Kind.REFUND, Reason.GONE)]
    assert await lost(watch) == [(Kind.REFUND, Reason.GONE)]
    await create_topics(watch.kafka)
    assert await lost(watch) == [(Kind.REFUND, Reason.MADE_ANEW)]


async def test_a_topic_lost_before_the_first_look_is_found_by_its_length(watch: TopicWatch) -> None:
    """As in an installation that is upgraded to this version afterwards."""
    await store_published(watch.pool, 3)
    await publish(watch, *"ab")
    assert await lost(watch) == [(Kind.ORDER, Reason.TOO_SHORT)]


async def test_a_topic_as_long_as_its_table_is_not_suspected(watch: TopicWatch) -> None:
    await store_published(watch.pool, 3)
    await publish(watch, *"abc")
    assert await lost(watch) == []
