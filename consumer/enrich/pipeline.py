"""The pipeline of a partition: reading, storing and publishing, each step a few batches ahead of the next.

*Reading* takes records and finds out what they ask for. Several batches of a topic are read at the same time,
because a detail call takes longer than everything else together. *Storing* takes what has been read in
time for the next transaction, all together. *Publishing* takes whatever has been stored meanwhile, in one
transaction; offsets go along when everything up to them is published. *Noting* writes to the tables what
several transactions have published. What comes after a pause passes every step at once.

Nothing of an order overtakes anything else of it: a hint waits while an earlier batch holds its order and is
not stored (`Turns`), and a batch is not stored while an order that it writes is being published and noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, TypeAlias

from aiokafka import ConsumerRecord, TopicPartition

from consumer.enrich import freshness
from consumer.enrich.backlog import Backlog
from consumer.enrich.freshness import Stages
from consumer.enrich.in_flight import InFlight, InFlightPart, Reading
from consumer.enrich.offsets import OffsetsToCommit
from consumer.enrich.read.batch import Batch
from consumer.enrich.republishing import Piece, Republishing
from consumer.enrich.turns import Turns
from consumer.enrich.write.published import Published
from consumer.enrich.write.writer import PartitionWriter, Tools
from topsync.base import failpoints, metrics, waits
from topsync.model.kind import Kind
from topsync.store.database import OUTAGE_ERRORS
from topsync.stream.ownership import PartitionReader
from topsync.stream.producer import Offsets
from topsync.stream.records import tid_of_key

Records: TypeAlias = "Sequence[ConsumerRecord[bytes, bytes]]"

READ_TIMEOUT_SECONDS: Final = 5.0

OFFSETS_EVERY_SECONDS: Final = 1.0
"""How long offsets of what is done wait before they go with the next transaction."""

OFFSETS_AT_MOST_SECONDS: Final = 2.0
"""How long they wait at most: then they have a transaction of their own."""

STORE_AHEAD_SECONDS: Final = 0.005
"""How long before the next transaction can begin the storing of what it will publish begins: about as long as
it takes."""

NOTE_WITHIN_SECONDS: Final = 0.5
"""How long what is published waits to be noted together with what is published after it, unless somebody
waits. A crash repeats what is not noted."""

END_SECONDS: Final = 1.0
"""How long the end of an ownership waits at most until what is published is noted."""

MANY: Final = 50
"""So many changes are stored, and so many versions noted, without waiting for more."""

SNAPSHOTS_WITHIN_SECONDS: Final = 0.2
"""How long snapshots wait at most until a full batch of them can be stored. A bulk start brings them in small
portions, none of which is urgent, and each statement and transaction costs more than many orders in it."""

AHEAD_GROUPS: Final = 4
"""Groups that are stored and wait to be published, or are published and wait to be noted."""


@dataclass(slots=True)
class _Group:
    """Parts that are stored and published together."""

    fetched_at: datetime
    stored_at: datetime
    batch: Batch = field(default_factory=Batch)
    parts: list[InFlightPart] = field(default_factory=list)
    written: set[int] = field(default_factory=set)
    """The orders of which something is to be noted once it is published."""
    pieces: list[tuple[Piece, asyncio.Future[int]]] = field(default_factory=list)
    """What is to be published again along with it, and who waits for that."""

    def add(self, part: InFlightPart) -> None:
        self.batch.join(part.batch)
        self.parts.append(part)

    def join(self, later: _Group) -> None:
        self.batch.join(later.batch)
        self.parts += later.parts
        self.written |= later.written
        self.pieces += later.pieces
        self.fetched_at, self.stored_at = later.fetched_at, later.stored_at


class Pipeline:
    """Everything between a partition's records and its orders, for a single ownership."""

    def __init__(
        self,
        tools: Tools,
        writer: PartitionWriter,
        *,
        batch_changes: int,
        batch_snapshots: int,
        backlog: Backlog | None = None,
        republishing: Republishing | None = None,
    ) -> None:
        self._tools = tools
        self._writer = writer
        self._changes = InFlight(batch_changes)
        self._snapshots = InFlight(batch_snapshots)
        self._in_flight: dict[TopicPartition, InFlight] = {}
        self._backlog = backlog
        self._republishing = republishing
        self._may_store = asyncio.Event()
        """Set when something has changed that storing waits for."""
        self._turns = Turns(waits=self._may_store.set)
        self._is_ahead = False
        """Whether something is stored that the next transaction will publish."""
        self._is_publishing = False
        self._groups: asyncio.Queue[_Group] = asyncio.Queue(AHEAD_GROUPS)
        self._published: asyncio.Queue[tuple[Published, set[int]]] = asyncio.Queue(AHEAD_GROUPS)
        """What is to be noted, and the orders that it is about."""
        self._being_noted = Published()
        """What has been taken out of it."""
        self._unnoted: set[int] = set()
        """Orders that are stored, and not yet noted as published: those of both queues."""
        self._note_now = asyncio.Event()
        self._has_noted = asyncio.Event()
        self._held_bytes = 0
        self._progress = OffsetsToCommit(OFFSETS_EVERY_SECONDS, OFFSETS_AT_MOST_SECONDS)

    async def run(self, changes: PartitionReader, snapshots: PartitionReader) -> None:
        """Read and write until cancelled.

        A crash at any point loses nothing: offsets are committed with, or soon after, the transaction that
        publishes what they led to.
        """
        self._in_flight = {changes.tp: self._changes, snapshots.tp: self._snapshots}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_all(changes, self._changes, tasks))
                tasks.create_task(self._read_all(snapshots, self._snapshots, tasks))
                tasks.create_task(self._store_all())
                tasks.create_task(self._publish_all())
                tasks.create_task(self._note_all())
                if self._republishing is not None:
                    tasks.create_task(self._republishing.run(self._publish_again))
        except asyncio.CancelledError:
            await self._note_the_rest()
            raise
        finally:
            self._let_go(self._held_bytes)

    async def _read_all(self, reader: PartitionReader, in_flight: InFlight, tasks: asyncio.TaskGroup) -> None:
        while True:
            taken = await reader.batch(
                max_records=await in_flight.room(), timeout_seconds=READ_TIMEOUT_SECONDS
            )
            if not taken:
                continue
            failpoints.reach("enricher.taken")
            sizes_bytes = {record.offset: _size_bytes(record) for record in taken}
            size_bytes = sum(sizes_bytes.values())
            await self._tools.bytes_in_flight.take(size_bytes)
            self._held_bytes += size_bytes
            metrics.ENRICHER_BYTES.set(self._tools.bytes_in_flight.taken_bytes)
            for reading, records in self._readings(taken, sizes_bytes):
                in_flight.begin(reading)
                tasks.create_task(self._read(in_flight, reading, records, unread=reader.unread))

    def _readings(self, taken: Records, sizes_bytes: Mapping[int, int]) -> Iterator[tuple[Reading, Records]]:
        """A single reading for all records, or two: records that wait for their turn hold up no others."""
        free: list[ConsumerRecord[bytes, bytes]] = []
        held: list[ConsumerRecord[bytes, bytes]] = []
        for record in taken:
            (held if self._turns.are_taken(tid_of_key(record.key)) else free).append(record)
        end = taken[-1].offset + 1
        # The first of two makes no offset done: the records of the second lie between its own.
        parts = [(free, taken[0].offset), (held, end)] if free and held else [(taken, end)]
        loop = asyncio.get_running_loop()
        for records, done in parts:
            size_bytes = sum(sizes_bytes[record.offset] for record in records)
            yield Reading(done, len(records), size_bytes, loop.create_future()), records

    async def _read(
        self,
        in_flight: InFlight,
        reading: Reading,
        taken: Records,
        *,
        unread: int,
    ) -> None:
        take_turn = partial(self._turns.take, stored=reading.stored)
        async for batch in self._tools.batches.read(taken, take_turn, backlog=self._backlog, unread=unread):
            in_flight.add(reading, batch)
            self._may_store.set()
        in_flight.end(reading)
        self._may_store.set()

    async def _store_all(self) -> None:
        while True:
            await self._until_time_to_store()
            # In turn: a change waits for one batch of snapshots at most, and neither starves.
            await self._store_some(self._changes.pop_all())
            if asyncio.get_running_loop().time() >= self._snapshots_due_at():
                await self._store_some(self._snapshots.pop_batch())

    def _snapshots_due_at(self) -> float:
        """When the snapshots that wait are to be stored, on the event loop's clock."""
        if self._snapshots.is_full or self._turns.somebody_waits:
            return 0.0
        return self._snapshots.waiting_since + SNAPSHOTS_WITHIN_SECONDS

    async def _until_time_to_store(self) -> None:
        """Wait for something that can be published next, or for so much that it is stored meanwhile.

        What comes while a transaction is under way has to wait for its end anyway, and for the pause after
        it: then it is stored together.
        """
        loop = asyncio.get_running_loop()
        while True:
            self._may_store.clear()
            if self._changes.waiting_records >= MANY or self._snapshots.is_full:
                return
            look_at = None
            if not self._is_publishing and not self._is_ahead:
                look_at = self._next_look_at()
                if look_at is not None and loop.time() >= look_at:
                    return
            # A timer may ring a little early: then it is set again.
            await waits.until_set(self._may_store, latest=look_at)

    def _next_look_at(self) -> float | None:
        """When what waits is to be stored although it is not much; None where nothing waits."""
        next_publishing_at = self._writer.free_at - STORE_AHEAD_SECONDS
        if self._changes.waiting_records:
            return next_publishing_at
        if self._snapshots.waiting_records:
            return max(self._snapshots_due_at(), next_publishing_at)
        return None

    async def _store_some(self, parts: Sequence[InFlightPart]) -> None:
        """Store these parts together."""
        if parts:
            await self._groups.put(await self._store(parts))
            self._is_ahead = True

    async def _store(self, parts: Sequence[InFlightPart]) -> _Group:
        now = self._tools.clock.estimate()
        group = _Group(fetched_at=now, stored_at=now)
        for part in parts:
            group.add(part)
        group.written = group.batch.written
        while not group.written.isdisjoint(self._unnoted):
            self._has_noted.clear()
            self._note_now.set()
            await self._has_noted.wait()
        self._trust_what_is_under_way(group.batch)
        storing, trips = self._writer.store(group.batch), group.batch.trips
        await (storing if trips is None else trips.storing(storing, group.batch.orders_of_versions()))
        self._unnoted |= group.written
        group.stored_at = self._tools.clock.estimate()
        for part in parts:
            part.in_flight.stored(part.reading)
        return group

    def _trust_what_is_under_way(self, batch: Batch) -> None:
        """Take out of what may be unpublished what an earlier group publishes: it goes before this, or fails
        together with it.
        """
        for part in batch.parts.values():
            for id_ in [id_ for id_, tid in part.doubtful.items() if tid in self._unnoted]:
                del part.doubtful[id_]

    async def _publish_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            group = await self._next_group()
            if group is None:
                self._is_publishing = True
                await self._writer.publish(Batch(), self._progress.take(now=loop.time(), at_once=True))
            else:
                await self._publish(group)
            self._is_publishing = False
            self._may_store.set()

    async def _publish(self, group: _Group) -> None:
        """Publish a group, with all that are stored by the time a transaction can begin."""
        loop = asyncio.get_running_loop()
        await self._writer.rest()
        while not self._groups.empty():
            group.join(self._groups.get_nowait())
        self._is_ahead, self._is_publishing = False, True
        size_bytes = sum(part.in_flight.published(part.reading) for part in group.parts)
        self._progress.add(self._pop_done(), now=loop.time())
        # The fewer dead letters a crash repeats, the fewer do people look at twice.
        dies = bool(group.batch.set_aside)
        offsets = self._progress.take(now=loop.time(), at_once=dies)
        # Read at the last moment: whatever is published later is read or stored later.
        again = Published()
        for piece, _ in group.pieces:
            again.join(await self._writer.again(piece))
        published = await self._writer.publish(group.batch, offsets, again)
        for _, waiting in group.pieces:
            if not waiting.done():
                waiting.set_result(again.count)
        stages = Stages(group.fetched_at, group.stored_at, self._tools.clock.estimate())
        for version in published.versions[Kind.ORDER]:
            if journey := group.batch.journeys.get(version.tid):
                freshness.observe(journey, stages)
        self._let_go(size_bytes)
        if published.count >= MANY or published.letters or published.tombstones or self._published.full():
            self._note_now.set()
        await self._published.put((published, group.written))

    async def _publish_again(self, piece: Piece) -> int:
        """Have a piece published with whatever is published next; returns how many records it was."""
        now = self._tools.clock.estimate()
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await self._groups.put(_Group(fetched_at=now, stored_at=now, pieces=[(piece, waiting)]))
        return await waiting

    async def _note_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._being_noted, tids = await self._published.get()
            # All partitions at the same moments: their statements become one.
            latest = NOTE_WITHIN_SECONDS * (loop.time() // NOTE_WITHIN_SECONDS + 1)
            await waits.until_set(self._note_now, latest=latest)
            self._note_now.clear()
            while not self._published.empty():
                later, others = self._published.get_nowait()
                self._being_noted.join(later)
                tids |= others
            await self._writer.note(self._being_noted)
            self._being_noted = Published()
            self._unnoted -= tids
            self._has_noted.set()

    async def _note_the_rest(self) -> None:
        """Note in an orderly end what is published and still waits for that: the next owner would publish it
        once more. A database that does not answer holds up nobody.
        """
        rest = self._being_noted
        while not self._published.empty():
            rest.join(self._published.get_nowait()[0])
        if rest.is_empty:
            return
        with suppress(TimeoutError, *OUTAGE_ERRORS):
            async with asyncio.timeout(END_SECONDS):
                await self._writer.note(rest)

    def _pop_done(self) -> Offsets:
        done = {tp: in_flight.pop_done() for tp, in_flight in self._in_flight.items()}
        return {tp: offset for tp, offset in done.items() if offset is not None}

    async def _next_group(self) -> _Group | None:
        """What is to be published next; None where offsets are due before anything is to be published."""
        try:
            async with asyncio.timeout_at(self._progress.due_at):
                return await self._groups.get()
        except TimeoutError:
            return None

    def _let_go(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
        self._tools.bytes_in_flight.give_back(size_bytes)
        metrics.ENRICHER_BYTES.set(self._tools.bytes_in_flight.taken_bytes)


def _size_bytes(record: ConsumerRecord[bytes, bytes]) -> int:
    """What a record weighs: key, value and headers, which need not have a value."""
    headers = 0
    for name, value in record.headers:
        headers += len(name) + len(value or b"")
    return len(record.key or b"") + len(record.value or b"") + headers
