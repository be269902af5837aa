"""Draining: reading all that is left in `changes` and `snapshots`, so that they can be deleted and made anew.

It is needed after somebody has added partitions to them. All other processes refuse to run then, so nothing
new comes. What some process wrote into the added partitions nevertheless is moved to where it belongs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka import TopicPartition

from consumer.enrich.enricher import Enricher
from topsync.base import telemetry
from topsync.base.errors import OperatorError
from topsync.base.service import Lifetime
from topsync.base.settings import KafkaSettings
from topsync.stream import clients, topics
from topsync.stream import producer as producers
from topsync.stream.group_progress import GroupProgress, group_progress
from topsync.stream.layout import drained
from topsync.stream.records import Record

log = telemetry.get_logger(__name__)

AT_ONCE: Final = 1000
"""Records moved together."""

READ_TIMEOUT_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0


class NotDrainedError(OperatorError):
    """It ended before everything was read."""


async def drain(enricher: Enricher, lifetime: Lifetime) -> None:
    """Move what was written into wrong partitions, be an enricher until nothing is left to read, and end.

    Idempotent: what was moved before is moved again, which brings nothing new to the table.

    Raises:
        NotDrainedError: the process was asked to end before.
    """
    wanted = drained(enricher.tools.topics)
    async with clients.admin_client(enricher.kafka) as admin:
        found = await topics.look(admin, enricher.tools.topics)
    for topic in wanted:
        added = range(topic.partitions, found[topic.name].partitions)
        moved = await move(enricher.kafka, [TopicPartition(topic.name, number) for number in added])
        log.info("moved out of partitions that were added", topic=topic.name, records=moved)
    async with (
        group_progress(enricher.kafka, enricher.settings.enricher_group, wanted) as progress,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(enricher.run(lifetime))
        done = tasks.create_task(_end_when_read(progress, lifetime))
    if not done.result():
        raise NotDrainedError("ended before everything was read; run it again, and it goes on from there")
    log.info("drained: changes and snapshots may be deleted")


async def _end_when_read(progress: GroupProgress, lifetime: Lifetime) -> bool:
    """Whether all was read when the process was asked to end; asks for that itself."""
    while not lifetime.stopping:
        left = await progress.behind(await progress.ends())
        if not left:
            lifetime.stop()
            return True
        log.info("draining", records_left=left)
        await lifetime.sleep(LOOK_SECONDS)
    return False


async def move(kafka: KafkaSettings, added: Sequence[TopicPartition]) -> int:
    """Move the records of added partitions to where their keys belong; how many records were moved."""
    moved = 0
    if not added:
        return moved
    async with clients.reader(kafka) as reader, producers.idempotent(kafka, draining=True) as producer:
        reader.assign(added)
        await reader.seek_to_beginning(*added)
        ends = await reader.end_offsets(added)
        while await _is_before(reader, ends):
            taken = await reader.getmany(timeout_ms=int(READ_TIMEOUT_SECONDS * 1000), max_records=AT_ONCE)
            astray = [
                Record(tp.topic, record.key, record.value, list(record.headers))
                for tp, records in taken.items()
                for record in records
            ]
            await producer.publish(astray)
            moved += len(astray)
    return moved


async def _is_before(reader: clients.Consumer, ends: dict[TopicPartition, int]) -> bool:
    return any([await reader.position(tp) < end for tp, end in ends.items()])
