"""Settings, topics and readers for a test on the shared broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import ConsumerRecord, TopicPartition

from tests.support.eventually import eventually
from tests.support.subscribers import reading
from topsync.base.settings import KafkaSettings
from topsync.stream import clients, topic_admin, topic_look, topics
from topsync.stream.layout import LayoutError
from topsync.stream.records import Record
from topsync.stream.topics import Registry, Topic, TopicsError

BOUND_SECONDS = 20.0


def settings_for(servers: str, prefix: str, *, partitions: int = 4) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap_servers=servers, topic_prefix=prefix, partitions=partitions, replication_factor=1
    )


async def create_topics(kafka: KafkaSettings) -> Registry:
    """Create the topics and wait until the broker lists them."""
    await topic_admin.apply(kafka)
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            try:
                return await topics.require(kafka)
            except (TopicsError, LayoutError):
                await asyncio.sleep(0.05)


def record(topic: str, key: str, value: str | None = "{}") -> Record:
    return Record(topic, key.encode(), None if value is None else value.encode(), [])


async def read_all(kafka: KafkaSettings, topic: str, partitions: int) -> list[ConsumerRecord[bytes, bytes]]:
    """Everything that a subscriber can see now."""
    found: list[ConsumerRecord[bytes, bytes]] = []
    async with reading(kafka, topic, partitions) as consumer, asyncio.timeout(BOUND_SECONDS):
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        ends = await consumer.end_offsets(tps)
        while [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                found += batch
    return found


def values(found: Sequence[ConsumerRecord[bytes, bytes]]) -> list[str | None]:
    return [taken.value.decode() if taken.value is not None else None for taken in found]


async def make_anew(kafka: KafkaSettings, topic: Topic) -> None:
    """Delete a topic, as somebody may by mistake, and create it again."""
    async with clients.admin_client(kafka) as admin:
        await admin.delete_topics([topic.name])
    await gone(kafka, topic)
    await create_topics(kafka)


async def gone(kafka: KafkaSettings, topic: Topic) -> None:
    """Wait until the broker no longer knows a topic that is being deleted."""

    async def is_gone() -> bool:
        return topic.name not in await topic_look.topic_ids(kafka, [topic.name])

    await eventually(is_gone, within_seconds=BOUND_SECONDS)
