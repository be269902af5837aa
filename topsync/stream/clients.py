"""Makes all our Kafka clients. None of them creates a topic by asking about it.

Where `auto.create.topics.enable` is true, which is Kafka's default, a broker creates each topic that a
metadata request names, unless the request forbids it. Such a topic has the broker's own number of partitions
and is not compacted: old records are deleted. aiokafka does not forbid it and has no option to do so. Its
clients go on asking while they live, so a topic that is deleted would be back at once. So we replace their
requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiokafka.admin.client
import aiokafka.client
from aiokafka import AIOKafkaConsumer as Consumer
from aiokafka import AIOKafkaProducer as KafkaProducer
from aiokafka.admin import AIOKafkaAdminClient as Admin
from aiokafka.protocol.metadata import MetadataRequest

from topsync.base.settings import KafkaSettings

__all__ = ["Admin", "Consumer", "KafkaProducer", "admin_client", "consumer", "producer", "reader"]


class LookingRequest(MetadataRequest):  # type: ignore[misc]  # aiokafka has no types
    """A metadata request that changes nothing, whatever the broker's settings are."""

    def __init__(self, topics: list[str] | None = None, _: bool | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


for _module in (aiokafka.client, aiokafka.admin.client):
    # aiokafka's clients build the request themselves. If a later aiokafka builds it in another way,
    # tests/stream/test_clients.py fails.
    _module.MetadataRequest = LookingRequest


def producer(settings: KafkaSettings, **options: object) -> KafkaProducer:
    """A producer, not started."""
    return KafkaProducer(**_common(settings), **options)


def consumer(settings: KafkaSettings, *topics: str, **options: object) -> Consumer:
    """A consumer, not started. It reads from the beginning, and only records of committed transactions."""
    return Consumer(
        *topics,
        **_common(settings),
        **{
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            **options,
        },
    )


@asynccontextmanager
async def reader(settings: KafkaSettings, *topics: str, **options: object) -> AsyncIterator[Consumer]:
    """A started consumer, stopped at the end.

    Raises:
        KafkaError: the cluster does not answer.
    """
    started = consumer(settings, *topics, **options)
    try:
        await started.start()
        yield started
    finally:
        await started.stop()


@asynccontextmanager
async def admin_client(settings: KafkaSettings) -> AsyncIterator[Admin]:
    """A client for administration of the cluster.

    Raises:
        KafkaError: the cluster does not answer.
    """
    client = Admin(bootstrap_servers=settings.kafka_bootstrap_servers)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


def _common(settings: KafkaSettings) -> dict[str, object]:
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "metadata_max_age_ms": int(settings.kafka_metadata_age_seconds * 1000),
    }
