"""What another process sees of a group; and that only committed records are deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aiokafka import TopicPartition

from tests.stream.clusters import read_all, record, values
from tests.support.subscribers import reading
from topsync.base.settings import KafkaSettings
from topsync.stream import producer as producers
from topsync.stream.group_progress import TopicLag, group_progress
from topsync.stream.topics import Registry

PARTITIONS = 4
MILLISECOND = timedelta(milliseconds=1)
"""Kafka's times are no finer."""


async def test_the_lag_of_a_group_is_what_it_has_not_committed(
    kafka: KafkaSettings, registry: Registry
) -> None:
    """Records after the marks do not count: otherwise nobody would ever be done while others write."""
    topic, group = registry.changes.name, f"{kafka.topic_prefix}-group"
    async with (
        producers.idempotent(kafka) as producer,
        group_progress(kafka, group, [registry.changes, registry.snapshots]) as progress,
    ):
        assert await progress.behind(await progress.ends()) == 0
        await producer.publish([record(topic, str(key)) for key in range(20)])
        marks = await progress.ends()
        assert await progress.behind(marks) == 20
        await producer.publish([record(topic, str(key)) for key in range(20)])
        await commit(kafka, topic, group, {tp: end for tp, end in marks.items() if tp.topic == topic})
        assert await progress.behind(marks) == 0
        assert await progress.behind(await progress.ends()) == 20


async def test_only_records_that_the_group_has_committed_are_deleted_and_only_of_that_topic(
    kafka: KafkaSettings, registry: Registry
) -> None:
    changes, snapshots = registry.changes.name, registry.snapshots.name
    group = f"{kafka.topic_prefix}-group"
    async with (
        producers.idempotent(kafka) as producer,
        group_progress(kafka, group, [registry.changes, registry.snapshots]) as progress,
    ):
        assert await progress.delete_done(registry.snapshots) == 0
        for topic in (changes, snapshots):
            await producer.publish([record(topic, "one", f'"{number}"') for number in range(3)])
        marks = await progress.ends()
        (full,) = (tp for tp, end in marks.items() if tp.topic == snapshots and end)
        await commit(kafka, changes, group, {TopicPartition(changes, full.partition): 3})
        await commit(kafka, snapshots, group, {full: 2})
        assert await progress.delete_done(registry.snapshots) == 2
        assert values(await read_all(kafka, snapshots, PARTITIONS)) == ['"2"']
        assert len(await read_all(kafka, changes, PARTITIONS)) == 3
        # Deleted records are done, also for a group whose offsets are forgotten.
        assert await progress.behind(marks) == 1
        assert await progress.delete_done(registry.snapshots) == 0


async def commit(kafka: KafkaSettings, topic: str, group: str, offsets: dict[TopicPartition, int]) -> None:
    async with reading(kafka, topic, PARTITIONS, group=group) as consumer:
        await consumer.commit(offsets)


async def test_a_lag_is_as_old_as_the_oldest_record_that_the_group_has_not_committed(
    kafka: KafkaSettings, registry: Registry
) -> None:
    topic, group = registry.changes.name, f"{kafka.topic_prefix}-group"
    async with (
        producers.idempotent(kafka) as producer,
        group_progress(kafka, group, [registry.changes, registry.snapshots]) as progress,
    ):
        assert await progress.lag_with_ages() == dict.fromkeys(
            (topic, registry.snapshots.name), TopicLag(0, None)
        )
        before = datetime.now(UTC)
        await producer.publish([record(topic, "one") for _ in range(3)])
        between = datetime.now(UTC)
        await producer.publish([record(topic, "one") for _ in range(3)])
        lag = (await progress.lag_with_ages())[topic]
        assert lag.records == 6
        assert lag.oldest_at is not None
        assert before - MILLISECOND <= lag.oldest_at <= between
        (full,) = (tp for tp, end in (await progress.ends()).items() if tp.topic == topic and end)
        await commit(kafka, topic, group, {full: 3})
        lag = (await progress.lag_with_ages())[topic]
        assert lag.records == 3
        assert lag.oldest_at is not None
        assert lag.oldest_at >= between - MILLISECOND
        assert lag.seconds(lag.oldest_at + timedelta(seconds=7)) == 7
