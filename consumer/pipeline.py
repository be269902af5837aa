"""The pipeline of one partition: reading, storing and publishing, each a few batches ahead of the next.

*Reading* takes records and finds out what they ask for. Several batches of a topic are read at the same time,
because a detail call takes longer than everything else together. *Storing* takes what has been read, as it
comes. *Publishing* takes whatever has been stored meanwhile, in one transaction; offsets go along when
everything up to them is published.

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
from typing import Final, TypeAlias

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
from topsync.stream.producer import Offsets
from topsync.stream.records import tid_of_key

Records: TypeAlias = "Sequence[ConsumerRecord[bytes, bytes]]"

READ_TIMEOUT_SECONDS: Final = 1.0

AHEAD_BATCHES: Final = 32
"""Batches of one topic that are read and not stored yet; small ones, as they come under a light load."""

AHEAD_FULL_BATCHES: Final = 2
"""The same where they are full: one is fetched while the other is stored. Keeps the gate's queue short."""

HELD_BATCHES: Final = 1000
"""Batches of one topic that are not done with: an order that the platform is slow with is overtaken by so
many. They are read again after a crash, and weigh nothing once they are published."""

OFFSETS_EVERY_SECONDS: Final = 0.25
"""How long what is done with waits for a transaction that takes its offsets along."""

AHEAD_GROUPS: Final = 4
"""Groups that are stored and wait to be published."""


@dataclass(slots=True, eq=False)
class _Reading:
    """Some records of one topic, from when they are taken until all that they led to is published."""

    next_offset: int
    """Up to there everything is done with when this and all readings before it are."""
    records: int
    size_bytes: int
    stored: asyncio.Future[None]
    """Done when everything is stored."""
    unstored: int = 1
    """Its parts that are not stored; that there may be more of them counts as one."""
    unpublished: int = 1
    """The same of publishing."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Something of a reading that can be stored."""

    lane: _Lane
    reading: _Reading
    batch: Batch


class _Lane:
    """What is under way of one topic.

    Parts are stored as they come: an order that the platform is slow with holds up no other. Offsets are
    done with in their order.
    """

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._readings: deque[_Reading] = deque()
        self._parts: deque[_Part] = deque()
        self._done = 0
        self._left = asyncio.Event()

    async def room(self) -> int:
        """Wait until more may be read; how many records."""
        while True:
            unstored = [one.records for one in self._readings if one.unstored]
            free = AHEAD_FULL_BATCHES * self._max_records - sum(unstored)
            if free > 0 and len(unstored) < AHEAD_BATCHES and len(self._readings) < HELD_BATCHES:
                return min(free, self._max_records)
            self._left.clear()
            await self._left.wait()

    def begin(self, reading: _Reading) -> None:
        self._readings.append(reading)

    def add(self, reading: _Reading, batch: Batch) -> None:
        """Take in a part of a reading."""
        reading.unstored += 1
        reading.unpublished += 1
        self._parts.append(_Part(self, reading, batch))

    def end(self, reading: _Reading) -> None:
        """Everything of a reading is read."""
        if reading.unpublished == 1:
            # Whatever there was is published; its offset goes with a transaction that has nothing else of it.
            self.add(reading, Batch())
        reading.unpublished -= 1
        self.stored(reading)

    def pop_parts(self, at_most: int) -> Iterator[_Part]:
        """Take out the parts that came first."""
        while at_most and self._parts:
            yield self._parts.popleft()
            at_most -= 1

    def stored(self, reading: _Reading) -> None:
        """Note that a part is stored."""
        reading.unstored -= 1
        if not reading.unstored:
            reading.stored.set_result(None)
        self._left.set()

    def published(self, reading: _Reading) -> int:
        """Note that a part goes with the transaction that begins; how many bytes are done with by that."""
        reading.unpublished -= 1
        return 0 if reading.unpublished else reading.size_bytes

    def pop_done(self) -> int | None:
        """The offset up to which everything is done with, if that is further than it was."""
        before = self._done
        while self._readings and not self._readings[0].unpublished:
            self._done = self._readings.popleft().next_offset
        self._left.set()
        return self._done if self._done > before else None


@dataclass(slots=True)
class _Group:
    """Parts that are stored and published together."""

    fetched_at: datetime
    stored_at: datetime
    batch: Batch = field(default_factory=Batch)
    parts: list[_Part] = field(default_factory=list)

    def add(self, part: _Part) -> None:
        self.batch.join(part.batch)
        self.parts.append(part)

    def join(self, later: _Group) -> None:
        self.batch.join(later.batch)
        self.parts += later.parts
        self.fetched_at, self.stored_at = later.fetched_at, later.stored_at


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
        self._lanes: dict[TopicPartition, _Lane] = {}
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
        self._lanes = {changes.tp: self._changes, snapshots.tp: self._snapshots}
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
            for reading, records in self._readings(taken):
                lane.begin(reading)
                tasks.create_task(self._read(lane, reading, records, unread=reader.unread))

    def _readings(self, taken: Records) -> Iterator[tuple[_Reading, Records]]:
        """One for all records, or two: those that have to wait for their turn hold up no others."""
        free: list[ConsumerRecord[bytes, bytes]] = []
        held: list[ConsumerRecord[bytes, bytes]] = []
        for record in taken:
            (held if self._turns.are_taken(tid_of_key(record.key)) else free).append(record)
        end = taken[-1].offset + 1
        # With the first of two, nothing is done with yet: the others lie between its records.
        parts = [(free, taken[0].offset), (held, end)] if free and held else [(taken, end)]
        loop = asyncio.get_running_loop()
        for records, done in parts:
            yield _Reading(done, len(records), sum(map(_size_bytes, records)), loop.create_future()), records

    async def _read(
        self,
        lane: _Lane,
        reading: _Reading,
        taken: Records,
        *,
        unread: int,
    ) -> None:
        take_turn = partial(self._turns.take, stored=reading.stored)
        async for batch in self._tools.batches.read(taken, take_turn, backlog=self._backlog, unread=unread):
            lane.add(reading, batch)
            self._has_read.set()
        lane.end(reading)
        self._has_read.set()

    async def _store_all(self) -> None:
        while True:
            await self._has_read.wait()
            self._has_read.clear()
            while parts := [
                *self._changes.pop_parts(AHEAD_BATCHES),
                # A change waits for one batch of snapshots at most, and neither starves.
                *self._snapshots.pop_parts(1),
            ]:
                await self._groups.put(await self._store(parts))

    async def _store(self, parts: Sequence[_Part]) -> _Group:
        now = self._tools.clock.estimate()
        group = _Group(fetched_at=now, stored_at=now)
        for part in parts:
            group.add(part)
        while not group.batch.tids.isdisjoint(self._unpublished):
            self._has_published.clear()
            await self._has_published.wait()
        await self._writer.store(group.batch)
        self._unpublished |= group.batch.tids
        group.stored_at = self._tools.clock.estimate()
        for part in parts:
            part.lane.stored(part.reading)
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
            size_bytes = sum(part.lane.published(part.reading) for part in group.parts)
            self._progress.add(self._pop_done(), now=loop.time())
            # The fewer dead letters a crash repeats, the fewer people look at twice.
            dies = bool(group.batch.dead_letters or group.batch.refunds.dead_letters)
            offsets = self._progress.take(now=loop.time(), at_once=dies)
            published = await self._writer.publish(group.batch, offsets)
            stages = Stages(group.fetched_at, group.stored_at, self._tools.clock.estimate())
            for version in published:
                if journey := group.batch.journeys.get(version.tid):
                    freshness.observe(journey, stages)
            self._unpublished -= group.batch.tids
            self._has_published.set()
            self._let_go(size_bytes)

    def _pop_done(self) -> Offsets:
        done = {tp: lane.pop_done() for tp, lane in self._lanes.items()}
        return {tp: offset for tp, offset in done.items() if offset is not None}

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
