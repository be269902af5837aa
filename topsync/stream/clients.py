"""Every Kafka client of ours is made here, and none of them creates a topic by looking at it.

Where `auto.create.topics.enable` is true, which is Kafka's default, a broker creates each topic that a
metadata request names, unless the request forbids it: with the broker's own number of partitions, and
deleting in place of compacting. aiokafka neither forbids it nor has an option that does. Its clients go on
asking for as long as they live: a topic that is deleted under them would be back at once. So their requests
are ours.
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
    # Their clients build the request themselves. Should a later aiokafka do so otherwise, tests/stream/
    # test_clients.py fails.
    _module.MetadataRequest = LookingRequest


def producer(settings: KafkaSettings, **options: object) -> KafkaProducer:
    """A producer that is not started yet."""
    return KafkaProducer(**_common(settings), **options)


def consumer(settings: KafkaSettings, *topics: str, **options: object) -> Consumer:
    """A consumer that is not started yet: from the beginning, and never of what was not committed."""
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
    """A client for the cluster's own affairs.

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
