"""The pipeline of one partition: reading, storing and publishing, each a few batches ahead of the next.

*Reading* takes records and finds out what they ask for. Several batches of a topic are read at the same time,
because a detail call takes longer than everything else together. *Storing* takes what has been read, in the
order of its offsets. *Publishing* takes whatever has been stored meanwhile, in one transaction.

Nothing of an order overtakes anything else of it: a hint waits while an earlier batch holds its order and is
not stored (`Turns`), and a batch is not stored while one of its orders is being published.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from aiokafka import ConsumerRecord, TopicPartition

from consumer import freshness
from consumer.backlog import Backlog
from consumer.batches import Batch
from consumer.freshness import Stages
from consumer.progress import Progress
from consumer.turns import Turns
from consumer.writer import PartitionWriter, Tools
from topsync import failpoints, metrics
from topsync.stream.ownership import PartitionReader

READ_TIMEOUT_SECONDS: Final = 1.0

AHEAD_BATCHES: Final = 8
"""Batches of one topic that are read and not stored yet; small ones, as they come under a light load."""

AHEAD_FULL_BATCHES: Final = 2
"""The same where they are full: one is fetched while the other is stored. Keeps the gate's queue short."""

OFFSETS_EVERY_SECONDS: Final = 0.25
"""So much is read again after a crash, at most."""

AHEAD_GROUPS: Final = 4
"""Groups that are stored and wait to be published."""


@dataclass(slots=True)
class _Reading:
    """A batch of one topic while it is read."""

    tp: TopicPartition
    next_offset: int
    records: int
    size_bytes: int
    batch: asyncio.Task[Batch]
    stored: asyncio.Future[None]


@dataclass(slots=True)
class _Group:
    """Batches that are stored and published together."""

    fetched_at: datetime
    stored_at: datetime
    batch: Batch = field(default_factory=Batch)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    size_bytes: int = 0

    def add(self, reading: _Reading) -> None:
        self.batch.join(reading.batch.result())
        self.offsets[reading.tp] = reading.next_offset
        self.size_bytes += reading.size_bytes

    def join(self, later: _Group) -> None:
        self.batch.join(later.batch)
        self.offsets |= later.offsets
        self.size_bytes += later.size_bytes
        self.fetched_at, self.stored_at = later.fetched_at, later.stored_at


class _Lane:
    """The batches of one topic that are read and not stored, in the order of their offsets."""

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._readings: deque[_Reading] = deque()
        self._left = asyncio.Event()

    async def room(self) -> int:
        """Wait until another batch may be read; how many records it may have."""
        while True:
            free = AHEAD_FULL_BATCHES * self._max_records - sum(one.records for one in self._readings)
            if free > 0 and len(self._readings) < AHEAD_BATCHES:
                return min(free, self._max_records)
            self._left.clear()
            await self._left.wait()

    def add(self, reading: _Reading) -> None:
        self._readings.append(reading)

    def pop_read(self, at_most: int) -> Iterator[_Reading]:
        """Take out the oldest batches that have been read."""
        while at_most and self._readings and self._readings[0].batch.done():
            self._left.set()
            yield self._readings.popleft()
            at_most -= 1


class Pipeline:
    """Everything between a partition's records and its orders, for one ownership."""

    def __init__(
        self,
        tools: Tools,
        writer: PartitionWriter,
        *,
        batch_changes: int,
        batch_snapshots: int,
        backlog: Backlog | None = None,
    ) -> None:
        self._tools = tools
        self._writer = writer
        self._changes = _Lane(batch_changes)
        self._snapshots = _Lane(batch_snapshots)
        self._turns = Turns()
        self._backlog = backlog
        self._has_read = asyncio.Event()
        self._groups: asyncio.Queue[_Group] = asyncio.Queue(AHEAD_GROUPS)
        self._unpublished: set[int] = set()
        """Orders that are stored and not published: those of the groups."""
        self._has_published = asyncio.Event()
        self._held_bytes = 0
        self._progress = Progress(OFFSETS_EVERY_SECONDS)

    async def run(self, changes: PartitionReader, snapshots: PartitionReader) -> None:
        """Read and write until cancelled.

        Dying anywhere in it loses nothing: offsets are committed with, or soon after, the transaction that
        publishes what they led to.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_all(changes, self._changes, tasks))
                tasks.create_task(self._read_all(snapshots, self._snapshots, tasks))
                tasks.create_task(self._store_all())
                tasks.create_task(self._publish_all())
        finally:
            self._let_go(self._held_bytes)

    async def _read_all(self, reader: PartitionReader, lane: _Lane, tasks: asyncio.TaskGroup) -> None:
        while True:
            taken = await reader.batch(max_records=await lane.room(), timeout_seconds=READ_TIMEOUT_SECONDS)
            if not taken:
                continue
            failpoints.reach("enricher.taken")
            size_bytes = sum(map(_size_bytes, taken))
            await self._tools.room.take(size_bytes)
            self._held_bytes += size_bytes
            metrics.ENRICHER_BYTES.set(self._tools.room.taken_bytes)
            stored = asyncio.get_running_loop().create_future()
            take_turn = partial(self._turns.take, stored=stored)
            reading = self._tools.batches.read(taken, take_turn, backlog=self._backlog, unread=reader.unread)
            batch = tasks.create_task(reading)
            batch.add_done_callback(lambda _: self._has_read.set())
            lane.add(_Reading(reader.tp, taken[-1].offset + 1, len(taken), size_bytes, batch, stored))

    async def _store_all(self) -> None:
        while True:
            await self._has_read.wait()
            self._has_read.clear()
            while readings := [
                *self._changes.pop_read(AHEAD_BATCHES),
                # A change waits for one batch of snapshots at most, and neither starves.
                *self._snapshots.pop_read(1),
            ]:
                await self._groups.put(await self._store(readings))

    async def _store(self, readings: Sequence[_Reading]) -> _Group:
        now = self._tools.clock.estimate()
        group = _Group(fetched_at=now, stored_at=now)
        for reading in readings:
            group.add(reading)
        while not group.batch.tids.isdisjoint(self._unpublished):
            self._has_published.clear()
            await self._has_published.wait()
        await self._writer.store(group.batch)
        self._unpublished |= group.batch.tids
        group.stored_at = self._tools.clock.estimate()
        for reading in readings:
            reading.stored.set_result(None)
        return group

    async def _publish_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            group = await self._next_group()
            if group is None:
                await self._writer.publish(Batch(), self._progress.take(now=loop.time(), at_once=True))
                continue
            await self._writer.rest()
            while not self._groups.empty():
                group.join(self._groups.get_nowait())
            self._progress.add(group.offsets, now=loop.time())
            # A dead letter is published once: with the offset of its record.
            dies = bool(group.batch.dead_letters or group.batch.refunds.dead_letters)
            offsets = self._progress.take(now=loop.time(), at_once=dies)
            published = await self._writer.publish(group.batch, offsets)
            stages = Stages(group.fetched_at, group.stored_at, self._tools.clock.estimate())
            for version in published:
                if journey := group.batch.journeys.get(version.tid):
                    freshness.observe(journey, stages)
            self._unpublished -= group.batch.tids
            self._has_published.set()
            self._let_go(group.size_bytes)

    async def _next_group(self) -> _Group | None:
        """What is to be published next; none where offsets are due before anything is."""
        try:
            async with asyncio.timeout_at(self._progress.due_at):
                return await self._groups.get()
        except TimeoutError:
            return None

    def _let_go(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
        self._tools.room.give_back(size_bytes)
        metrics.ENRICHER_BYTES.set(self._tools.room.taken_bytes)


def _size_bytes(record: ConsumerRecord[bytes, bytes]) -> int:
    """What a record weighs: key, value and headers."""
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
