"""Publishing: durable when it returns, all or nothing with offsets, and fenced (I1, P2, P4)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions
from aiokafka.conn import AIOKafkaConnection

from schemas import cloud_events
from tests.stream.clusters import BOUND_SECONDS, read_all, record, values
from tests.support.eventually import eventually
from tests.support.subscribers import reading
from topsync.base.settings import KafkaSettings
from topsync.stream import clients, records
from topsync.stream import producer as producers
from topsync.stream.layout import LayoutError
from topsync.stream.producer import FencedError, Producer, PublishError
from topsync.stream.records import Record
from topsync.stream.topics import Registry

GROUP = "group"


async def committed(kafka: KafkaSettings, topic: str, partition: int) -> int | None:
    async with reading(kafka, topic, 1, group=f"{kafka.topic_prefix}-{GROUP}") as consumer:
        offset: int | None = await consumer.committed(TopicPartition(topic, partition))
        return offset


async def test_records_are_in_the_topic_when_publish_returns(
    kafka: KafkaSettings, registry: Registry
) -> None:
    wanted = [record(registry.changes.name, str(n), f"{n}") for n in range(200)]
    async with producers.idempotent(kafka) as producer:
        await producer.publish(wanted)
        found = await read_all(kafka, registry.changes.name, 4)
    assert sorted(values(found), key=lambda v: int(v or 0)) == [str(n) for n in range(200)]
    assert {written.key: written.partition for written in found} == {
        written.key: records.partition_of(int(written.key), 4) for written in found
    }


async def test_a_record_that_kafka_refuses_is_an_error_and_never_counts_as_written(
    kafka: KafkaSettings, registry: Registry
) -> None:
    huge = Record(registry.changes.name, b"1", b"x" * (records.MAX_REQUEST_BYTES + 1), [])
    async with producers.idempotent(kafka) as producer:
        with pytest.raises(PublishError):
            await producer.publish([record(registry.changes.name, "2"), huge])


async def test_the_largest_possible_dead_letter_is_accepted(kafka: KafkaSettings, registry: Registry) -> None:
    large = Record(registry.dead_letters.name, b"1", b"x" * (records.MAX_RECORD_BYTES - 1024), [])
    async with producers.idempotent(kafka) as producer:
        await producer.publish([large])
    (found,) = await read_all(kafka, registry.dead_letters.name, 1)
    assert len(found.value or b"") == len(large.value or b"")


@pytest.mark.parametrize("part", ["value", "key", "headers"])
async def test_the_dead_letter_of_any_record_in_kafka_is_accepted(
    kafka: KafkaSettings, registry: Registry, part: str
) -> None:
    """Otherwise it would be tried for ever, and nothing after it would be written."""
    large = b"x" * (records.MAX_REQUEST_BYTES - 1024)
    letter = records.dead_letter(
        registry.dead_letters.name,
        reason="a_test",
        detail="many lines " * 100_000,
        original=large if part == "value" else b"1",
        original_headers=[("a", b"1"), ("b", large if part == "headers" else b"2")],
        key=large if part == "key" else b"1",
        at=datetime(2026, 11, 20, tzinfo=UTC),
        origin="a test",
    )
    async with producers.idempotent(kafka) as producer:
        await producer.publish([letter])
    (found,) = await read_all(kafka, registry.dead_letters.name, 1)
    ce = cloud_events.attributes(found.headers)
    assert found.key == letter.key
    assert (found.key or b"").startswith(b"x" if part == "key" else b"1")
    assert (found.value or b"").startswith(b"x" if part == "value" else b"1")
    assert ce["detail"].startswith("many lines ")
    assert (f" of {len(large)} bytes" in ce["detail"]) == (part == "value")
    kept = [("original_a", b"1"), *([] if part == "headers" else [("original_b", b"2")])]
    assert [header for header in found.headers if header[0].startswith("original_")] == kept


async def test_a_transaction_shows_its_records_together_with_its_offsets(
    kafka: KafkaSettings, registry: Registry
) -> None:
    source = TopicPartition(registry.changes.name, 0)
    group = f"{kafka.topic_prefix}-{GROUP}"
    async with producers.partition_publisher(
        kafka, group=group, partition=0, spacing_seconds=0.01
    ) as publisher:
        await publisher.publish([record(registry.orders.name, str(n), f"{n}") for n in range(3)], {source: 7})
        assert len(await read_all(kafka, registry.orders.name, 4)) == 3
        assert await committed(kafka, *source) == 7
        await publisher.publish([], {source: 9})
        assert await committed(kafka, *source) == 9
        await publisher.publish([], {})
    assert len(await read_all(kafka, registry.orders.name, 4)) == 3


async def test_a_transaction_makes_as_many_requests_for_many_orders_as_for_a_single_order(
    kafka: KafkaSettings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request is a round trip, which delays everything that waits behind the transaction."""
    sent, send = list[str](), AIOKafkaConnection.send

    def noted(self: AIOKafkaConnection, request: object, *args: object, **kwargs: object) -> object:
        sent.append(type(request).__name__)
        return send(self, request, *args, **kwargs)

    async with producers.partition_publisher(kafka, group=GROUP, partition=0, spacing_seconds=0) as publisher:
        orders = [record(registry.orders.name, "1", "x" * 2_000)] * 100
        await publisher.publish(orders[:1], {})
        monkeypatch.setattr(AIOKafkaConnection, "send", noted)
        await publisher.publish(orders, {})
    assert sent.count("ProduceRequest") == 1


async def test_a_transaction_that_fails_half_way_shows_nothing_and_moves_no_offset(
    kafka: KafkaSettings, registry: Registry
) -> None:
    source = TopicPartition(registry.changes.name, 0)
    group = f"{kafka.topic_prefix}-{GROUP}"
    huge = Record(registry.orders.name, b"9", b"x" * (records.MAX_REQUEST_BYTES + 1), [])
    # The first of them is on its way when the error comes.
    two_batches = [record(registry.orders.name, "1", "x" * producers.MAX_BATCH_BYTES)] * 2
    async with producers.partition_publisher(
        kafka, group=group, partition=0, spacing_seconds=0.01
    ) as publisher:
        with pytest.raises(PublishError):
            await publisher.publish([*two_batches, huge], {source: 7})
        assert await read_all(kafka, registry.orders.name, 4) == []
        assert await committed(kafka, *source) is None
        # And the next transaction succeeds.
        await publisher.publish([record(registry.orders.name, "1", "again")], {source: 8})
    assert values(await read_all(kafka, registry.orders.name, 4)) == ["again"]
    assert await committed(kafka, *source) == 8


async def test_a_cancelled_transaction_publishes_nothing(kafka: KafkaSettings, registry: Registry) -> None:
    """A writer must give its partition up in the middle of a transaction."""
    group = f"{kafka.topic_prefix}-{GROUP}"
    async with producers.partition_publisher(
        kafka, group=group, partition=0, spacing_seconds=60
    ) as publisher:
        await publisher.publish([record(registry.orders.name, "1", "first")], {})
        waiting = asyncio.create_task(publisher.publish([record(registry.orders.name, "1", "second")], {}))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert values(await read_all(kafka, registry.orders.name, 4)) == ["first"]


async def test_a_second_owner_fences_the_first_and_aborts_its_open_transaction(
    kafka: KafkaSettings, registry: Registry
) -> None:
    source = TopicPartition(registry.changes.name, 0)
    group = f"{kafka.topic_prefix}-{GROUP}"
    async with producers.partition_publisher(kafka, group=group, partition=0, spacing_seconds=0.01) as first:
        await first.publish([record(registry.orders.name, "1", "first")], {source: 1})
        async with producers.partition_publisher(
            kafka, group=group, partition=0, spacing_seconds=0.01
        ) as second:
            with pytest.raises(FencedError):
                await first.publish([record(registry.orders.name, "1", "stale")], {source: 99})
            await second.publish([record(registry.orders.name, "1", "second")], {source: 2})
            assert await committed(kafka, *source) == 2
    assert values(await read_all(kafka, registry.orders.name, 4)) == ["first", "second"]


async def test_owners_of_different_partitions_do_not_fence_each_other(
    kafka: KafkaSettings, registry: Registry
) -> None:
    group = f"{kafka.topic_prefix}-{GROUP}"
    async with (
        producers.partition_publisher(kafka, group=group, partition=0, spacing_seconds=0.01) as first,
        producers.partition_publisher(kafka, group=group, partition=1, spacing_seconds=0.01) as other,
    ):
        await asyncio.gather(
            first.publish([record(registry.orders.name, "1", "one")], {}),
            other.publish([record(registry.orders.name, "2", "other")], {}),
        )
    assert sorted(values(await read_all(kafka, registry.orders.name, 4)), key=str) == ["one", "other"]


async def test_records_never_go_into_added_partitions_and_are_refused_once_these_are_known(
    kafka: KafkaSettings, registry: Registry
) -> None:
    """P2: in another partition an order has another writer."""
    quick = kafka.model_copy(update={"kafka_metadata_age_seconds": 1.0})
    wanted = [record(registry.changes.name, str(n)) for n in range(20)]
    async with producers.idempotent(quick) as producer, clients.admin_client(kafka) as admin:
        await producer.publish(wanted)
        await admin.create_partitions({registry.changes.name: NewPartitions(7)})
        with pytest.raises(LayoutError, match=r"trade\.changes\.v1 has 7 partitions, not 4"):
            await asyncio.wait_for(publish_for_ever(producer, wanted), BOUND_SECONDS)
    found = await read_all(kafka, registry.changes.name, 7)
    assert len(found) >= len(wanted)
    assert {written.key: written.partition for written in found} == {
        written.key: records.partition_of(int(written.key), 4) for written in found
    }


async def publish_for_ever(producer: Producer, wanted: list[Record]) -> None:
    while True:
        await producer.publish(wanted)


async def test_a_writer_publishes_no_order_into_a_topic_with_added_partitions(
    kafka: KafkaSettings, registry: Registry
) -> None:
    async with clients.admin_client(kafka) as admin:
        await admin.create_partitions({registry.orders.name: NewPartitions(7)})

        async def is_known() -> bool:
            (described,) = await admin.describe_topics([registry.orders.name])
            return len(described["partitions"]) == 7

        # The broker tells clients of new partitions a moment after it has created them.
        await eventually(is_known)
    async with producers.partition_publisher(kafka, group=GROUP, partition=0, spacing_seconds=0) as publisher:
        with pytest.raises(LayoutError, match=r"trade\.orders\.v1 has 7 partitions, not 4"):
            await publisher.publish([record(registry.orders.name, "1")], {})
    assert await read_all(kafka, registry.orders.name, 7) == []


async def test_more_partitions_of_a_topic_that_is_not_read_by_key_stop_nobody(
    kafka: KafkaSettings, registry: Registry
) -> None:
    async with clients.admin_client(kafka) as admin:
        await admin.create_partitions({registry.dead_letters.name: NewPartitions(3)})
    async with producers.idempotent(kafka) as producer:
        await producer.publish([record(registry.dead_letters.name, str(n)) for n in range(10)])
    assert {written.partition for written in await read_all(kafka, registry.dead_letters.name, 3)} == {0}
