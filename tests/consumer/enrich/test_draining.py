"""Records in added partitions are moved to the partitions of their keys before they are drained."""

from __future__ import annotations

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions

from consumer.enrich import draining
from tests.stream.clusters import create_topics, read_all, settings_for
from topsync.stream import clients, records

PARTITIONS, ALL = 2, 4


async def test_records_in_added_partitions_are_moved_to_where_they_belong_and_are_not_changed(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=PARTITIONS)
    changes = (await create_topics(kafka)).changes.name
    async with clients.admin_client(kafka) as admin:
        await admin.create_partitions({changes: NewPartitions(ALL)})
    async with clients.producer(kafka, acks="all") as astray:
        for tid in range(20):
            # As a process of an older version writes, which asks the cluster for the number of partitions.
            partition = records.partition_of(tid, ALL)
            headers = [("n", b"%d" % tid)]
            await astray.send_and_wait(
                changes, b"{}", key=records.key_of(tid), partition=partition, headers=headers
            )
    added = [TopicPartition(changes, number) for number in range(PARTITIONS, ALL)]
    lost = {tid for tid in range(20) if records.partition_of(tid, ALL) >= PARTITIONS}

    assert await draining.move(kafka, added) == len(lost) > 0

    moved = [
        record
        for record in await read_all(kafka, changes, PARTITIONS)
        if record.partition == records.partition_of(int(record.key), PARTITIONS) and int(record.key) in lost
    ]
    assert {int(record.key): (record.value, record.headers) for record in moved} == {
        tid: (b"{}", (("n", b"%d" % tid),)) for tid in lost
    }
