"""A subscriber of the orders, which notes how long it waited for each."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from schemas import cloud_events
from schemas.types import parse_instant
from topsync.base.settings import KafkaSettings
from topsync.local.system import System
from topsync.stream import clients, topics
from topsync.stream.clients import Consumer

PREFIX = "taobao"
"""The product's default for the names of topics."""


@dataclass(slots=True)
class Subscriber:
    """A subscriber of `orders`, and how long it waited for each pushed order, in seconds."""

    waits: list[float] = field(default_factory=list)

    async def read(self, consumer: Consumer) -> None:
        while True:
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                now = time.time()
                for record in batch:
                    hinted = cloud_events.attributes(record.headers).get("hintedat")
                    if hinted is not None:
                        self.waits.append(now - parse_instant(hinted).timestamp())


@asynccontextmanager
async def subscribed(system: System, partitions: int, prefix: str = PREFIX) -> AsyncIterator[Subscriber]:
    """A subscriber that reads, from now on, what is committed to the orders of that prefix."""
    kafka = KafkaSettings(
        kafka_bootstrap_servers=system.environment["KAFKA_BOOTSTRAP_SERVERS"],
        topic_prefix=prefix,
        partitions=partitions,
    )
    orders = topics.registry(kafka).orders
    async with clients.reader(kafka) as consumer:
        all_partitions = [TopicPartition(orders.name, number) for number in range(orders.partitions)]
        consumer.assign(all_partitions)
        await consumer.seek_to_end(*all_partitions)
        subscriber = Subscriber()
        reading = asyncio.create_task(subscriber.read(consumer))
        try:
            yield subscriber
        finally:
            reading.cancel()


def percentiles(waits: Sequence[float]) -> tuple[float, float]:
    """Median and p99."""
    cuts = statistics.quantiles(waits, n=100)
    return cuts[49], cuts[98]
