"""Reading a partition backwards from its end, in pieces: the newest does not wait for the oldest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from aiokafka import ConsumerRecord, TopicPartition

from topsync.base.errors import OperatorError
from topsync.base.settings import KafkaSettings
from topsync.stream import clients
from topsync.stream.clients import Consumer

STALLED_SECONDS: Final = 30.0
"""Kafka may take so long for the next record."""

POLL_SECONDS: Final = 1.0

PIECE_RECORDS: Final = 1000
"""Handed over by the client at once."""

FETCH_WAIT_MILLISECONDS: Final = 50
"""How long Kafka may wait for records behind the last. The client asks for them ahead, although nobody wants
them, and gets no other answer meanwhile: by Kafka's default each piece and each look for a topic's end would
come half a second late."""


class StalledError(OperatorError):
    """Kafka does not hand out what it has."""


@asynccontextmanager
async def reader(settings: KafkaSettings, **options: object) -> AsyncIterator[Consumer]:
    """A started consumer for reading backwards, stopped at the end.

    Raises:
        KafkaError: the cluster does not answer.
    """
    async with clients.reader(settings, fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS, **options) as consumer:
        yield consumer


async def bounds(consumer: Consumer, tp: TopicPartition, since: datetime | None) -> tuple[int, int]:
    """From which offset and up to which a partition has records, of those that Kafka had from `since` on.

    The time is the broker's or the producer's, as the topic is configured; None means all.

    Raises:
        KafkaError: the cluster does not answer.
    """
    begin = (await consumer.beginning_offsets([tp]))[tp]
    end = (await consumer.end_offsets([tp]))[tp]
    if since is not None:
        found = (await consumer.offsets_for_times({tp: int(since.timestamp() * 1000)}))[tp]
        begin = end if found is None else max(begin, found.offset)
    return begin, end


async def newest_first(
    consumer: Consumer, tp: TopicPartition, begin: int, end: int, *, offsets_at_once: int
) -> AsyncIterator[tuple[int, list[ConsumerRecord[bytes, bytes]]]]:
    """The records between two offsets in pieces, the newest piece first: each with the offset it begins at.

    Within a piece, the newest record is the last. The partition must be assigned to the consumer.

    Raises:
        StalledError: Kafka does not hand them out.
        KafkaError: the cluster does not answer.
    """
    while end > begin:
        start = max(begin, end - offsets_at_once)
        yield start, await between(consumer, tp, start, end)
        end = start


async def between(
    consumer: Consumer, tp: TopicPartition, start: int, end: int
) -> list[ConsumerRecord[bytes, bytes]]:
    """What is between two offsets; the markers of transactions are offsets without a record.

    Raises:
        StalledError: Kafka does not hand it out.
        KafkaError: the cluster does not answer.
    """
    consumer.seek(tp, start)
    found: list[ConsumerRecord[bytes, bytes]] = []
    position, loop = start, asyncio.get_running_loop()
    stalled_at = loop.time() + STALLED_SECONDS
    while position < end:
        batch = await consumer.getmany(tp, timeout_ms=int(POLL_SECONDS * 1000), max_records=PIECE_RECORDS)
        found += batch.get(tp, [])
        before, position = position, await consumer.position(tp)
        if position > before:
            stalled_at = loop.time() + STALLED_SECONDS
        elif loop.time() >= stalled_at:
            raise StalledError(f"Kafka has not answered for {STALLED_SECONDS:g} s: is a broker down?")
    return [record for record in found if record.offset < end]
