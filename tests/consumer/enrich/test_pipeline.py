"""The order of events in the pipeline, whose stages take random times: what may overlap and what may not."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from consumer.enrich import pipeline
from consumer.enrich.bytes_in_flight import BytesInFlight
from consumer.enrich.in_flight import AHEAD_BATCHES
from consumer.enrich.pipeline import Pipeline
from consumer.enrich.read.batch import Batch
from consumer.enrich.read.batches import TakeTurn
from consumer.enrich.republishing import Piece
from consumer.enrich.write.published import Published
from topsync.base.clock import ServerClock
from topsync.model.kind import Kind
from topsync.store.open_letters import Subject

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

CHANGES, SNAPSHOTS = TopicPartition("changes", 0), TopicPartition("snapshots", 0)
RECORDS = 120
BATCH = 5
ORDERS = 8
"""Few, so that batches under way often share some."""

BOUND_SECONDS = 20.0


@dataclass(frozen=True)
class FakeVersion:
    """A version of an order; each is newer than the one before."""

    tid: int
    kind: ClassVar = Kind.ORDER

    @property
    def key(self) -> int:
        return self.tid

    def is_older_than(self, other: FakeVersion) -> bool:
        return other is not self


class FakeLetter(NamedTuple):
    """A dead letter, by which a record's place travels."""

    tp: TopicPartition
    offset: int
    subject: Subject | None


def written_by(batch: Batch) -> set[int]:
    """The orders of which a batch brings a version or a letter."""
    letters = cast("list[FakeLetter]", batch.dead_letters)
    return {*batch.of(Kind.ORDER).versions} | {each.subject.tid for each in letters if each.subject}


class Stages:
    """Topics, judge, table and publisher in one object, each randomly slow; it checks each rule."""

    def __init__(self, seed: int, *, batch_snapshots: int = BATCH) -> None:
        self.dice = random.Random(seed)
        self.batch_snapshots = batch_snapshots
        self.bytes_in_flight = BytesInFlight(500)
        self.clock = ServerClock()
        moment = self.clock.monotonic()
        self.clock.observe(datetime.now(UTC), sent=moment, received=moment)
        self.batches = self
        self.being_read = 0
        self.most_being_read = 0
        self.judged: dict[tuple[TopicPartition, int], int] = {}
        """Of each record that is judged and not stored yet, by its place: its order."""
        self.unnoted: set[int] = set()
        self.published: dict[TopicPartition, set[int]] = {CHANGES: set(), SNAPSHOTS: set()}
        self.committed = {CHANGES: 0, SNAPSHOTS: 0}
        self.overtaken = False
        self.stored_while_reading = False
        self.being_noted = False
        self.published_while_noting = False
        self.stored_revisions = dict.fromkeys(range(ORDERS), 0)
        self.told_revisions = dict.fromkeys(range(ORDERS), 0)
        self.pieces = 0
        """Published once more."""
        self.doubted = 0
        """Orders that were stored as perhaps unpublished."""
        self.done = asyncio.Event()

    async def take_time(self) -> None:
        await asyncio.sleep(self.dice.choice((0, 0, 0.001, 0.003)))

    def reader(self, tp: TopicPartition) -> Any:
        offsets = iter(range(RECORDS))

        async def batch(*, max_records: int, timeout_seconds: float) -> list[Record]:
            await self.take_time()
            size = self.dice.randint(1, min(BATCH, max_records))
            taken = [self.record(tp, offset) for offset in itertools.islice(offsets, size)]
            if not taken:
                await asyncio.sleep(timeout_seconds)
            return taken

        return SimpleNamespace(tp=tp, batch=batch, unread=0)

    def record(self, tp: TopicPartition, offset: int) -> Record:
        key = str(self.dice.randrange(ORDERS)).encode()
        return ConsumerRecord(tp.topic, 0, offset, 0, 0, key, b"x" * 10, None, 1, 10, ())

    async def read(self, taken: Sequence[Record], take_turn: TakeTurn, **_: object) -> AsyncIterator[Batch]:
        """As a `BatchReader` does, in two parts now and then; where each record came from travels with the
        last of them as its dead letter.
        """
        batch = Batch(tids={int(record.key) for record in taken})
        self.being_read += 1
        self.most_being_read = max(self.most_being_read, self.being_read)
        await take_turn(batch.tids)
        assert batch.tids.isdisjoint(self.judged.values()), "an order is judged by what will change"
        self.judged |= {(TopicPartition(record.topic, 0), record.offset): int(record.key) for record in taken}
        await self.take_time()
        self.being_read -= 1
        if self.dice.random() < 0.3:
            yield Batch(tids=set(batch.tids))
            await self.take_time()
        batch.dead_letters = cast("Any", [self.letter(record) for record in taken])
        for tid in batch.tids:
            if self.dice.random() < 0.5:
                batch.add(cast("Any", FakeVersion(tid)))
            else:
                batch.of(Kind.ORDER).doubtful[tid] = tid
        yield batch

    def letter(self, record: Record) -> FakeLetter:
        """What says where a record came from; now and then it is a letter about the record's order."""
        subject = Subject.of_order(int(record.key), "odd") if self.dice.random() < 0.2 else None
        return FakeLetter(TopicPartition(record.topic, 0), record.offset, subject)

    async def store(self, batch: Batch) -> None:
        written = written_by(batch)
        assert self.unnoted.isdisjoint(written), "a step is compared with what is noted as published"
        doubtful = batch.of(Kind.ORDER).doubtful.keys()
        assert self.unnoted.isdisjoint(doubtful), "what is under way is published by whoever stored it"
        self.doubted += len(doubtful)
        places = [(letter.tp, letter.offset) for letter in cast("list[FakeLetter]", batch.dead_letters)]
        snapshots = sum(tp == SNAPSHOTS for tp, _ in places)
        assert snapshots <= self.batch_snapshots, "a change waits for one batch of snapshots at most"
        self.stored_while_reading |= bool(self.being_read)
        await self.take_time()
        for tp, offset in places:
            del self.judged[tp, offset]
        for tid in written:
            self.stored_revisions[tid] += 1
        self.unnoted |= written

    async def again(self, piece: Piece) -> Published:
        """What the table has now, as pairs of order and revision."""
        await self.take_time()
        found = [(tid, self.stored_revisions[tid]) for tid in piece.keys]
        await self.take_time()
        return Published.of(Kind.ORDER, cast("Any", found))

    async def run(self, publish: Callable[[Piece], Awaitable[int]]) -> None:
        """As a `Republishing` does, without end."""
        while True:
            tids = frozenset(self.dice.sample(range(ORDERS), 3))
            assert await publish(Piece(Kind.ORDER, tids)) == len(tids)
            self.pieces += 1
            await self.take_time()

    @property
    def free_at(self) -> float:
        return asyncio.get_running_loop().time() + self.dice.choice((0, 0, 0.001))

    async def rest(self) -> None:
        await self.take_time()

    async def publish(
        self, batch: Batch, offsets: dict[TopicPartition, int], again: Published | None = None
    ) -> Published:
        """Its orders go on as its tombstones."""
        self.published_while_noting |= self.being_noted
        await self.take_time()
        for tid, revision in cast("list[tuple[int, int]]", again.versions[Kind.ORDER] if again else []):
            assert revision >= self.told_revisions[tid], "what is published again is never older"
            self.told_revisions[tid] = revision
        written = written_by(batch)
        for tid in written:
            self.told_revisions[tid] = self.stored_revisions[tid]
        for tp, offset, _ in cast("list[FakeLetter]", batch.dead_letters):
            self.overtaken |= bool(self.published[tp]) and offset < max(self.published[tp])
            self.published[tp].add(offset)
        for tp, offset in offsets.items():
            assert self.committed[tp] < offset, "offsets only rise"
            assert self.published[tp] >= set(range(offset)), "only published records are done"
            self.committed[tp] = offset
        if set(self.committed.values()) == {RECORDS}:
            self.done.set()
        return Published(tombstones=cast("Any", list(written)))

    async def note(self, published: Published) -> None:
        self.being_noted = True
        await self.take_time()
        self.being_noted = False
        self.unnoted -= cast("set[int]", set(published.tombstones))


@pytest.mark.parametrize("seed", range(8))
async def test_stages_overlap_and_no_step_of_an_order_overtakes_another(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "READ_TIMEOUT_SECONDS", 0.01)
    stages = Stages(seed)
    tools = writer = cast("Any", stages)
    line = Pipeline(tools, writer, batch_changes=BATCH, batch_snapshots=BATCH, republishing=tools)
    running = asyncio.create_task(line.run(stages.reader(CHANGES), stages.reader(SNAPSHOTS)))
    done = asyncio.create_task(stages.done.wait())
    async with asyncio.timeout(BOUND_SECONDS):
        await asyncio.wait({done, running}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    assert stages.stored_while_reading, "the next batches wait for the batch that is stored"
    assert stages.published_while_noting, "nobody waits for noting"
    assert stages.overtaken, "a slow batch holds up the others"
    assert stages.doubted > 1, "what nobody has under way may be unpublished"
    assert stages.pieces > 1, "what is asked for once more is published beside it"
    assert 2 <= stages.most_being_read <= 2 * AHEAD_BATCHES
    running.cancel()
    await asyncio.wait({running})


async def test_the_bytes_that_a_writer_holds_at_its_end_are_free_for_the_others() -> None:
    stages = Stages(seed=1)
    publishing = asyncio.Event()

    async def never_published(*_: object) -> Published:
        publishing.set()
        await asyncio.Event().wait()
        return Published()

    tools = writer = cast("Any", stages)
    writer.publish = never_published
    line = Pipeline(tools, writer, batch_changes=BATCH, batch_snapshots=BATCH)
    running = asyncio.create_task(line.run(stages.reader(CHANGES), stages.reader(SNAPSHOTS)))
    async with asyncio.timeout(BOUND_SECONDS):
        await publishing.wait()
    assert stages.bytes_in_flight.taken_bytes > 0
    running.cancel()
    await asyncio.wait({running})
    assert stages.bytes_in_flight.taken_bytes == 0


async def test_what_comes_during_a_transaction_is_stored_together_and_noted_with_what_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "NOTE_WITHIN_SECONDS", 2.0)
    # All of it happens long before the next moment at which partitions note.
    await asyncio.sleep(2.0 - asyncio.get_running_loop().time() % 2.0)
    stages = Stages(seed=1)
    offsets, asked, stored, noted = itertools.count(), asyncio.Queue[int](), list[int](), list[int]()
    publishing, go_on = asyncio.Queue[None](), asyncio.Event()

    async def batch(**_: object) -> list[Record]:
        size = await asked.get()
        return [stages.record(CHANGES, next(offsets)) for _ in range(size)]

    async def nothing(**_: object) -> list[Record]:
        await asyncio.Event().wait()
        return []

    async def read(taken: Sequence[Record], *_: object, **__: object) -> AsyncIterator[Batch]:
        yield Batch(tids={record.offset for record in taken})

    async def store(batch: Batch) -> None:
        stored.append(len(batch.tids))

    async def publish(batch: Batch, *_: object) -> Published:
        publishing.put_nowait(None)
        await go_on.wait()
        return Published(versions=defaultdict(list, {Kind.REFUND: cast("Any", list(batch.tids))}))

    async def note(published: Published) -> None:
        noted.append(published.count)

    tools = writer = cast("Any", stages)
    writer.read, writer.store, writer.publish, writer.note = read, store, publish, note
    line = Pipeline(tools, writer, batch_changes=BATCH, batch_snapshots=BATCH)
    changes, snapshots = (
        cast("Any", SimpleNamespace(tp=tp, batch=each, unread=0))
        for tp, each in ((CHANGES, batch), (SNAPSHOTS, nothing))
    )
    running = asyncio.create_task(line.run(changes, snapshots))
    async with asyncio.timeout(BOUND_SECONDS):
        asked.put_nowait(1)
        await publishing.get()
        for _ in range(3):
            asked.put_nowait(2)
            await stages.take_time()
        await asyncio.sleep(0.05)
        assert stored == [1], "it could not be published"
        go_on.set()
        await publishing.get()
        while sum(noted) < 7:
            await stages.take_time()
    assert stored == [1, 6]
    assert noted == [7]
    running.cancel()
    await asyncio.wait({running})


async def test_what_is_published_is_noted_before_an_orderly_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "NOTE_WITHIN_SECONDS", 1000.0)
    stages = Stages(seed=1)
    tools = writer = cast("Any", stages)
    published, noted = asyncio.Event(), list[object]()

    async def publish(*_: object) -> Published:
        published.set()
        return Published(versions=defaultdict(list, {Kind.REFUND: cast("Any", ["a version"])}))

    async def note(of: Published) -> None:
        await stages.take_time()
        noted.extend(of.versions[Kind.REFUND])

    writer.publish, writer.note = publish, note
    line = Pipeline(tools, writer, batch_changes=BATCH, batch_snapshots=BATCH)
    running = asyncio.create_task(line.run(stages.reader(CHANGES), stages.reader(SNAPSHOTS)))
    async with asyncio.timeout(BOUND_SECONDS):
        await published.wait()
        while not line._being_noted.count:
            await stages.take_time()
        assert not noted
        running.cancel()
        await asyncio.wait({running})
    assert running.cancelled()
    assert noted


async def test_snapshots_wait_until_they_are_a_full_batch_or_somebody_waits_for_one_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "SNAPSHOTS_WITHIN_SECONDS", 3600.0)
    stages, stored = Stages(seed=1), asyncio.Queue[set[int]]()
    portions: dict[TopicPartition, asyncio.Queue[list[int]]] = {
        CHANGES: asyncio.Queue(),
        SNAPSHOTS: asyncio.Queue(),
    }
    offsets = itertools.count()

    def reader(tp: TopicPartition) -> Any:
        async def batch(**_: object) -> list[Record]:
            return [
                ConsumerRecord(tp.topic, 0, next(offsets), 0, 0, str(tid).encode(), b"x", None, 1, 1, ())
                for tid in await portions[tp].get()
            ]

        return SimpleNamespace(tp=tp, batch=batch, unread=0)

    async def read(taken: Sequence[Record], take_turn: TakeTurn, **_: object) -> AsyncIterator[Batch]:
        batch = Batch(tids={int(record.key) for record in taken})
        await take_turn(batch.tids)
        yield batch

    async def store(batch: Batch) -> None:
        stored.put_nowait(batch.tids)

    async def publish(batch: Batch, *_: object) -> Published:
        return Published(tombstones=cast("Any", list(batch.tids)))

    tools = writer = cast("Any", stages)
    writer.read, writer.store, writer.publish = read, store, publish
    line = Pipeline(tools, writer, batch_changes=4, batch_snapshots=4)
    running = asyncio.create_task(line.run(reader(CHANGES), reader(SNAPSHOTS)))
    async with asyncio.timeout(BOUND_SECONDS):
        for tid in (1, 2, 3):
            portions[SNAPSHOTS].put_nowait([tid])
        portions[CHANGES].put_nowait([100])
        assert await stored.get() == {100}, "a change waits for no snapshot"
        portions[SNAPSHOTS].put_nowait([4])
        assert await stored.get() == {1, 2, 3, 4}
        portions[SNAPSHOTS].put_nowait([5])
        portions[SNAPSHOTS].put_nowait([6])
        await asyncio.sleep(0.05)
        assert stored.empty()
        portions[CHANGES].put_nowait([6])
        assert await stored.get() == {5, 6}
        assert await stored.get() == {6}
    running.cancel()
    await asyncio.wait({running})


async def test_snapshots_that_are_no_full_batch_wait_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "READ_TIMEOUT_SECONDS", 0.01)
    stages = Stages(seed=1, batch_snapshots=10 * RECORDS)
    tools = writer = cast("Any", stages)
    line = Pipeline(tools, writer, batch_changes=BATCH, batch_snapshots=stages.batch_snapshots)
    running = asyncio.create_task(line.run(stages.reader(CHANGES), stages.reader(SNAPSHOTS)))
    done = asyncio.create_task(stages.done.wait())
    async with asyncio.timeout(BOUND_SECONDS):
        await asyncio.wait({done, running}, return_when=asyncio.FIRST_COMPLETED)
    assert done.done()
    running.cancel()
    await asyncio.wait({running})


async def test_what_waits_for_a_pause_is_stored_although_the_pause_takes_longer() -> None:
    stages, publishing = Stages(seed=1), asyncio.Queue[None]()
    began_at = asyncio.get_running_loop().time()
    pauses = itertools.chain([0.05, 0.06, 0.07], itertools.repeat(0.08))

    class Writer:
        store, note, again, rest = stages.store, stages.note, stages.again, stages.rest

        @property
        def free_at(self) -> float:
            return began_at + next(pauses)

        async def publish(self, batch: Batch, *_: object) -> Published:
            publishing.put_nowait(None)
            return Published()

    line = Pipeline(cast("Any", stages), cast("Any", Writer()), batch_changes=1, batch_snapshots=1)
    running = asyncio.create_task(line.run(stages.reader(CHANGES), stages.reader(SNAPSHOTS)))
    async with asyncio.timeout(BOUND_SECONDS):
        await publishing.get()
    running.cancel()
    await asyncio.wait({running})


async def test_changes_are_stored_while_pieces_are_published_once_more_without_a_pause() -> None:
    stages, published = Stages(seed=1), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def run(publish: Callable[[Piece], Awaitable[int]]) -> None:
        while True:
            await publish(Piece(Kind.ORDER, frozenset({1})))

    async def rest() -> None:
        await asyncio.sleep(writer.free_at - loop.time())

    async def publish(batch: Batch, *_: object) -> Published:
        await rest()
        if batch.tids:
            published.set()
        writer.free_at = loop.time() + 0.01
        return Published()

    tools = cast("Any", stages)
    writer = cast(
        "Any",
        SimpleNamespace(
            free_at=0.0, rest=rest, publish=publish, store=stages.store, note=stages.note, again=stages.again
        ),
    )
    republishing = cast("Any", SimpleNamespace(run=run))
    line = Pipeline(tools, writer, batch_changes=1, batch_snapshots=1, republishing=republishing)
    running = asyncio.create_task(line.run(stages.reader(CHANGES), stages.reader(SNAPSHOTS)))
    async with asyncio.timeout(BOUND_SECONDS):
        await published.wait()
    running.cancel()
    await asyncio.wait({running})
