"""Reads topics as a subscriber does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from topsync.base.settings import KafkaSettings
from topsync.stream import lookback


@asynccontextmanager
async def reading(
    kafka: KafkaSettings, topic: str, partitions: int, *, group: str | None = None
) -> AsyncIterator[AIOKafkaConsumer]:
    """A `read_committed` reader of a whole topic, from its beginning."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.kafka_bootstrap_servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=lookback.FETCH_WAIT_MILLISECONDS,
    )
    try:
        await consumer.start()
        consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
        await consumer.seek_to_beginning()
        yield consumer
    finally:
        await consumer.stop()
