"""Producers: an idempotent producer for everybody, a transactional producer for a partition's writer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder

from schemas import cloud_events
from topsync.base import failpoints, telemetry, tracing
from topsync.base.settings import KafkaSettings
from topsync.stream import clients, record_spans, topics
from topsync.stream.clients import KafkaProducer
from topsync.stream.layout import Layout
from topsync.stream.records import MAX_REQUEST_BYTES, Record, tid_of_key

log = telemetry.get_logger(__name__)

STOP_TIMEOUT_SECONDS = 5.0
"""A fenced producer's `stop()` can hang (docs/platform/kafka.md), so it is bounded."""

MAX_BATCH_BYTES = 256 * 1024
"""The most that goes to a partition at once; a larger record goes alone. No batch waits until it is full."""

KEYED_BY_ORDER = frozenset(
    {
        cloud_events.CHANGE_TYPE,
        cloud_events.ERASURE_TYPE,
        cloud_events.SNAPSHOT_TYPE,
        cloud_events.DEAD_LETTER_TYPE,
    }
)
"""Types of events whose records have an order's id for their key, where they have one."""

Offsets = Mapping[TopicPartition, int]
"""Consumed offsets to be committed: for each partition, the offset of the next record."""

PublishError = KafkaError
"""Raised when Kafka did not acknowledge: then nothing may be confirmed."""


class FencedError(RuntimeError):
    """Another process has taken this partition over; nothing of this transaction was published."""


class Producer:
    """An idempotent producer, acks=all: a record is durable when its future is done."""

    def __init__(self, producer: KafkaProducer, layout: Layout) -> None:
        self._producer = producer
        self._layout = layout

    async def send(self, records: Sequence[Record]) -> list[asyncio.Future[object]]:
        """Hand records over. All are durable once every future is done; if a future raises, some are not.

        Records with the same key stay in order, also across calls.

        Waits while the client's buffer is full. Raises PublishError when that takes too long, and LayoutError
        as `publish` does.
        """
        return await _send(self._producer, self._layout, records)

    async def publish(self, records: Sequence[Record]) -> None:
        """Write records and wait until all are durable.

        Raises:
            PublishError: at least one was not acknowledged; writing them all again is harmless.
            LayoutError: a topic has another number of partitions than it should; no record was handed over.
        """
        began_ns = 0 if tracing.active is None else time.time_ns()
        for outcome in await asyncio.gather(*await self.send(records), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        if tracing.active is not None:
            record_spans.published(records, began_ns)
        _log_orders(records)


def _log_orders(published: Sequence[Record]) -> None:
    """Each order that the enrichers are asked about, for whoever follows one through the logs."""
    if not telemetry.writes_debug():
        return
    for record in published:
        about = cloud_events.attributes(record.headers)
        if about.get("type") in KEYED_BY_ORDER:
            log.debug("published", tid=tid_of_key(record.key), topic=record.topic, id=about.get("id"))


async def _send(
    producer: KafkaProducer, layout: Layout, records: Sequence[Record]
) -> list[asyncio.Future[object]]:
    """Hand records over in as few batches as possible. A partition's batches go one after the other."""
    for topic in {record.topic for record in records}:
        # The client's knowledge may be old, but the partition of a record does not depend on it.
        layout.require(topic, len(await producer.partitions_for(topic)))
    batches: dict[tuple[str, int], BatchBuilder] = {}
    futures: list[asyncio.Future[object]] = []
    for record in records:
        place = (record.topic, layout.partition_of(record))
        batch = batches.get(place)
        if batch is not None and _append(batch, record):
            continue
        if batch is not None:
            futures.append(await _hand_over(producer, place, batch))
        batch = batches[place] = producer.create_batch()
        # An empty batch accepts a record of any size.
        if not _append(batch, record) or batch.size() > MAX_REQUEST_BYTES:
            raise MessageSizeTooLargeError(
                f"a record for {record.topic} has more than {MAX_REQUEST_BYTES} bytes"
            )
    for place, batch in batches.items():
        futures.append(await _hand_over(producer, place, batch))
    return futures


async def _hand_over(
    producer: KafkaProducer, place: tuple[str, int], batch: BatchBuilder
) -> asyncio.Future[object]:
    batch.close()
    topic, partition = place
    future: asyncio.Future[object] = await producer.send_batch(batch, topic, partition=partition)
    # When a producer or transaction is given up, nobody may look at the future any more.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _append(batch: BatchBuilder, record: Record) -> bool:
    appended = batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
    return appended is not None


@asynccontextmanager
async def idempotent(settings: KafkaSettings, *, draining: bool = False) -> AsyncIterator[Producer]:
    """A started idempotent producer, flushed and closed at the end; `draining` is `Layout`'s."""
    producer = clients.producer(
        settings,
        acks="all",
        enable_idempotence=True,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=MAX_REQUEST_BYTES,
    )
    await _start(producer)
    try:
        yield Producer(producer, Layout(topics.registry(settings), draining=draining))
    finally:
        await _stop(producer)


class PartitionPublisher:
    """The transactional producer of a partition: starting it fences all earlier producers.

    The transactional id is (group, partition), because offsets sent to a transaction carry no group
    generation: fencing depends on this id alone (docs/platform/kafka.md).
    """

    def __init__(
        self, producer: KafkaProducer, layout: Layout, *, group: str, spacing_seconds: float
    ) -> None:
        self._producer = producer
        self._layout = layout
        self._group = group
        self._spacing_seconds = spacing_seconds
        self._free_at = 0.0

    @property
    def free_at(self) -> float:
        """When the next transaction can begin without extra cost, on the event loop's clock."""
        return self._free_at

    async def rest(self) -> None:
        """Wait until the next transaction can begin without extra cost; `publish` does so too.

        A transaction that begins while the broker still writes the markers of the last costs 20 ms more.
        """
        if (seconds := self._free_at - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(seconds)

    async def publish(self, records: Sequence[Record], offsets: Offsets) -> None:
        """Write records and consumed offsets in a transaction: either all of it happens or nothing.

        Raises:
            FencedError: another owner has taken over.
            PublishError: Kafka did not acknowledge it. A `read_committed` reader sees nothing of it, unless
                only the answer to the commit was lost; then writing it again makes a duplicate.
            LayoutError: a topic has another number of partitions than it should; nothing was written.
        """
        if not records and not offsets:
            return
        await self.rest()
        try:
            async with self._producer.transaction():
                await asyncio.gather(*await _send(self._producer, self._layout, records))
                failpoints.reach("enricher.records_sent")
                if offsets:
                    await self._producer.send_offsets_to_transaction(dict(offsets), self._group)
                    failpoints.reach("enricher.offsets_sent")
        except ProducerFenced as error:
            raise FencedError("another process has taken this partition over") from error
        finally:
            self._free_at = asyncio.get_running_loop().time() + self._spacing_seconds


def transactional_ids(settings: KafkaSettings, group: str) -> str:
    """How the transactional ids of a group's writers begin; a partition's number ends each."""
    return f"{settings.topic_prefix}.{group}."


@asynccontextmanager
async def partition_publisher(
    settings: KafkaSettings, *, group: str, partition: int, spacing_seconds: float
) -> AsyncIterator[PartitionPublisher]:
    """Take over a partition's publishing: abort an earlier owner's open transaction, and fence the owner."""
    producer = clients.producer(
        settings,
        transactional_id=f"{transactional_ids(settings, group)}{partition}",
        acks="all",
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=MAX_REQUEST_BYTES,
    )
    await _start(producer)
    try:
        layout = Layout(topics.registry(settings))
        yield PartitionPublisher(producer, layout, group=group, spacing_seconds=spacing_seconds)
    finally:
        await _stop(producer)


async def _start(producer: KafkaProducer) -> None:
    try:
        await producer.start()
    except BaseException:
        await _stop(producer)
        raise


async def _stop(producer: KafkaProducer) -> None:
    try:
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
            await producer.stop()
    except (TimeoutError, KafkaError) as error:
        log.warning("producer did not stop cleanly", error=repr(error))
