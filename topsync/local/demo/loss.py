"""Measures what an outage costs: which orders changed unseen, and whether we have them.

The comparison is with a consumer that trusts messages alone, which is the first that people write. It is not
invented: such a consumer would have seen exactly what push wrote to `changes`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson
from aiokafka import TopicPartition

from schemas import platform_time
from schemas.change import Change, Source
from topsync.base.settings import KafkaSettings
from topsync.local.system import System
from topsync.store import orders
from topsync.store.database import Pool
from topsync.stream import clients
from topsync.stream.topics import Registry
from topsync.verify import admin_port

ADMIN_TIMEOUT_SECONDS = 30.0
READ_MILLISECONDS = 200


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the platform shows it."""

    tid: int
    status: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class OutageLoss:
    """Orders without a message about their last change: a consumer of messages alone misses all of them."""

    orders: list[Order]
    recovered: int
    """How many of these our copy has as the platform showed them, or newer."""


async def changed_between(
    system: System, sellers: Iterable[int], since: datetime, until: datetime
) -> list[Order]:
    """Orders whose last change is in this span of platform time, by their ids."""
    found = []
    fields = "tid,status,modified"
    async with admin_port.client(system.admin_url, timeout_seconds=ADMIN_TIMEOUT_SECONDS) as client:
        for seller_id in sellers:
            answer = await client.get("/truth", params={"user_id": seller_id, "fields": fields})
            answer.raise_for_status()
            found += [_order(orjson.loads(line)) for line in answer.content.splitlines()]
    # The platform's times have whole seconds: a change in the first second may have come before the outage.
    return sorted((order for order in found if since < order.modified <= until), key=lambda order: order.tid)


def _order(shown: Mapping[str, object]) -> Order:
    return Order(int(str(shown["tid"])), str(shown["status"]), platform_time.parse(str(shown["modified"])))


async def measure(
    pool: Pool, kafka: KafkaSettings, topics: Registry, changed: Collection[Order]
) -> OutageLoss:
    """Find which of these changes no message was about, and whether our copy has them now."""
    heard = await _last_messages(kafka, topics)
    lost = [order for order in changed if order.tid not in heard or heard[order.tid] < order.modified]
    return OutageLoss(lost, await count_stored(pool, lost))


async def count_stored(pool: Pool, changed: Collection[Order]) -> int:
    """How many of these our copy has as the platform showed them, or newer."""
    known = await orders.TABLE.known(pool, [order.tid for order in changed])
    return sum(1 for order in changed if order.tid in known and known[order.tid].modified >= order.modified)


async def _last_messages(kafka: KafkaSettings, topics: Registry) -> dict[int, datetime]:
    """When the last message about each order was published, of the messages that reached push."""
    last: dict[int, datetime] = {}
    name, count = topics.changes.name, topics.changes.partitions
    async with clients.reader(kafka) as consumer:
        partitions = [TopicPartition(name, number) for number in range(count)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                read = await consumer.getmany(partition, timeout_ms=READ_MILLISECONDS)
                for record in read.get(partition, []):
                    change = Change.model_validate_json(record.value)
                    if change.source is Source.PUSH:
                        last[change.tid] = max(change.occurred_at, last.get(change.tid, change.occurred_at))
    return last
