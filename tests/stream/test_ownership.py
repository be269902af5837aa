"""Ownership: each partition's task runs in only one process, and ends before another process has it (P2)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher

from tests.stream.clusters import BOUND_SECONDS, record
from tests.support.eventually import eventually
from tests.support.running import running
from topsync.base.settings import KafkaSettings
from topsync.stream import ownership
from topsync.stream import producer as producers
from topsync.stream.ownership import Member
from topsync.stream.topics import Registry

SESSION_TIMEOUT_SECONDS = 6.0
"""The least that a broker allows by default."""


IDLE_FOR_SECONDS = 2.0
"""With its own times, aiokafka would send four requests in it, and look ten times whether to send one."""

LOOKS_AT_THE_START = 5
"""Until the request is under way."""

LONG_SECONDS = 60.0
"""A session time-out for restarts that take long."""

Own = Callable[[int, Member], Coroutine[None, None, None]]


@dataclass
class Board:
    """Which member runs which partition's task now, and whether two ever did."""

    running: dict[int, str] = field(default_factory=dict)
    collisions: list[tuple[int, str, str]] = field(default_factory=list)
    begun: Counter[str] = field(default_factory=Counter)
    """Tasks so far, by member."""

    def as_(self, name: str) -> Own:
        """What a member of this name runs."""
        return lambda partition, _: self.run(name, partition)

    async def run(self, name: str, partition: int, *, ends_in_seconds: float = 0.05) -> None:
        """A partition's task: runs until it is cancelled, and a little longer to clean up."""
        if partition in self.running:
            self.collisions.append((partition, self.running[partition], name))
        self.running[partition] = name
        self.begun[name] += 1
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(ends_in_seconds)
            del self.running[partition]

    def of(self, name: str) -> set[int]:
        return {partition for partition, owner in self.running.items() if owner == name}


def membership(
    kafka: KafkaSettings,
    registry: Registry,
    own: Own,
    *,
    instance_id: str | None = None,
    session_timeout_seconds: float = SESSION_TIMEOUT_SECONDS,
) -> Member:
    return Member(
        kafka,
        topic=registry.changes,
        group=f"{kafka.topic_prefix}-group",
        instance_id=instance_id,
        session_timeout_seconds=session_timeout_seconds,
        own=own,
    )


@asynccontextmanager
async def member(
    kafka: KafkaSettings,
    registry: Registry,
    own: Own,
    *,
    instance_id: str | None = None,
    session_timeout_seconds: float = SESSION_TIMEOUT_SECONDS,
) -> AsyncIterator[Member]:
    """A running member; it ends in an orderly way when the block ends."""
    joined = membership(
        kafka, registry, own, instance_id=instance_id, session_timeout_seconds=session_timeout_seconds
    )
    async with running(joined.run, within_seconds=BOUND_SECONDS):
        yield joined


async def test_members_share_the_partitions_and_each_task_runs_in_exactly_one_member(
    kafka: KafkaSettings, registry: Registry
) -> None:
    board = Board()
    async with member(kafka, registry, board.as_("first")) as first:
        await eventually(lambda: board.of("first") == {0, 1, 2, 3}, within_seconds=BOUND_SECONDS)
        async with member(kafka, registry, board.as_("second")) as second:
            await eventually(
                lambda: len(board.of("first")) == len(board.of("second")) == 2, within_seconds=BOUND_SECONDS
            )
            assert set(first.partitions) | set(second.partitions) == {0, 1, 2, 3}
            assert not set(first.partitions) & set(second.partitions)
        assert not board.of("second"), "a member that ends stops its tasks before it leaves"
        await eventually(lambda: board.of("first") == {0, 1, 2, 3}, within_seconds=BOUND_SECONDS)
    assert board.running == {}
    assert board.collisions == []


async def test_a_member_learns_of_another_at_once_whatever_its_session_time(
    kafka: KafkaSettings, registry: Registry
) -> None:
    """No member reads anything between the moments at which the first and the last member learn of it."""
    board = Board()
    loop = asyncio.get_running_loop()
    async with member(kafka, registry, board.as_("first"), session_timeout_seconds=LONG_SECONDS) as first:
        await eventually(lambda: len(first.partitions) == 4, within_seconds=BOUND_SECONDS)
        began = loop.time()
        async with member(kafka, registry, board.as_("second"), session_timeout_seconds=LONG_SECONDS):
            await eventually(
                lambda: len(board.of("first")) == len(board.of("second")) == 2, within_seconds=BOUND_SECONDS
            )
            assert loop.time() - began < LONG_SECONDS / 8


async def test_a_member_that_restarts_under_its_name_gets_its_partitions_back_and_moves_no_others(
    kafka: KafkaSettings, registry: Registry
) -> None:
    """Static membership: it does not leave the group when it ends, and others are not disturbed."""
    board = Board()
    async with (
        member(kafka, registry, board.as_("first"), instance_id="0", session_timeout_seconds=LONG_SECONDS),
        AsyncExitStack() as second,
    ):
        await second.enter_async_context(
            member(
                kafka, registry, board.as_("second"), instance_id="1", session_timeout_seconds=LONG_SECONDS
            )
        )
        await eventually(
            lambda: len(board.of("first")) == len(board.of("second")) == 2, within_seconds=BOUND_SECONDS
        )
        kept, left, begun = board.of("first"), board.of("second"), board.begun["first"]

        await second.aclose()
        async with member(
            kafka, registry, board.as_("second"), instance_id="1", session_timeout_seconds=LONG_SECONDS
        ):
            await eventually(lambda: bool(board.of("second")), within_seconds=BOUND_SECONDS)
            assert (board.of("first"), board.of("second")) == (kept, left)
            assert board.begun["first"] == begun, "the tasks of the first member continued"


async def test_a_member_that_is_leaving_takes_no_partition(kafka: KafkaSettings, registry: Registry) -> None:
    """The group rebalances while it cleans up; a partition that it took then would stay with it."""
    board = Board()

    async def own_slowly(partition: int, _: Member) -> None:
        await board.run("leaving", partition, ends_in_seconds=3)

    stopping = asyncio.Event()
    leaving = asyncio.create_task(membership(kafka, registry, own_slowly).run(stopping.is_set))
    await eventually(lambda: len(board.of("leaving")) == 4, within_seconds=BOUND_SECONDS)
    stopping.set()
    async with member(kafka, registry, board.as_("staying")) as staying:
        await asyncio.wait_for(leaving, BOUND_SECONDS)
        await eventually(lambda: len(staying.partitions) == 4, within_seconds=BOUND_SECONDS)
    assert board.begun["leaving"] == 4
    assert board.collisions == []


async def test_a_task_that_fails_ends_the_member_with_its_error_and_every_other_task(
    kafka: KafkaSettings, registry: Registry
) -> None:
    board = Board()

    async def own(partition: int, _: Member) -> None:
        if partition == 2:
            await eventually(lambda: board.of("first") == {0, 1, 3})
            raise LookupError("defect")
        await board.run("first", partition)

    joined = membership(kafka, registry, own)
    with pytest.raises(LookupError, match="defect"):
        await asyncio.wait_for(joined.run(lambda: False), BOUND_SECONDS)
    assert joined.partitions == []
    assert board.running == {}


async def test_a_take_over_begins_after_the_records_that_the_former_owner_published(
    kafka: KafkaSettings, registry: Registry
) -> None:
    group = f"{kafka.topic_prefix}-group"
    source = TopicPartition(registry.changes.name, 0)
    async with producers.partition_publisher(kafka, group=group, partition=0, spacing_seconds=0.01) as former:
        await former.publish([record(registry.orders.name, "1")], {source: 41})
    found: dict[int, int | None] = {}

    async def own(partition: int, joined: Member) -> None:
        async with producers.partition_publisher(
            kafka, group=group, partition=partition, spacing_seconds=0.01
        ):
            found[partition] = await joined.committed(registry.changes.name, partition)
            await asyncio.Event().wait()

    async with member(kafka, registry, own):
        await eventually(lambda: len(found) == 4, within_seconds=BOUND_SECONDS)
    assert found == {0: 41, 1: None, 2: None, 3: None}


async def test_a_reader_begins_at_its_offset_or_at_the_beginning_and_skips_aborted_records(
    kafka: KafkaSettings, registry: Registry
) -> None:
    name = registry.notifications.name
    async with producers.partition_publisher(kafka, group="g", partition=0, spacing_seconds=0) as publisher:
        await publisher.publish([record(name, "k", "0"), record(name, "k", "1")], {})
        await publisher.publish([record(name, "k", "2")], {})
    for offset, expected in ((None, [b"0", b"1", b"2"]), (1, [b"1", b"2"]), (2, [b"2"])):
        async with ownership.partition_reader(kafka, topic=name, partition=0, offset=offset) as reader:
            found: list[bytes | None] = []
            async with asyncio.timeout(BOUND_SECONDS):
                while len(found) < len(expected):
                    batch = await reader.batch(max_records=1, timeout_seconds=1)
                    assert len(batch) <= 1
                    found += [taken.value for taken in batch]
            assert found == expected
            assert await reader.batch(max_records=10, timeout_seconds=0.1) == []


async def test_what_comes_soon_after_other_batches_is_read_together(
    kafka: KafkaSettings, registry: Registry
) -> None:
    name = registry.notifications.name
    async with (
        producers.idempotent(kafka) as producer,
        ownership.partition_reader(kafka, topic=name, partition=0, offset=None, gather_seconds=1) as reader,
    ):
        alone = []
        for value in ("0", "1"):
            await producer.publish([record(name, "k", value)])
            alone += await reader.batch(max_records=10, timeout_seconds=BOUND_SECONDS)
        await producer.publish([record(name, "k", "2")])
        await producer.publish([record(name, "k", "3")])
        together = await reader.batch(max_records=10, timeout_seconds=BOUND_SECONDS)
    assert [taken.value for taken in alone] == [b"0", b"1"]
    assert [taken.value for taken in together] == [b"2", b"3"]


async def test_after_a_lone_batch_a_reader_does_not_wait(kafka: KafkaSettings, registry: Registry) -> None:
    name = registry.notifications.name
    async with (
        producers.idempotent(kafka) as producer,
        ownership.partition_reader(
            kafka, topic=name, partition=0, offset=None, gather_seconds=2 * BOUND_SECONDS
        ) as reader,
        asyncio.timeout(BOUND_SECONDS),
    ):
        for value in ("0", "1"):
            await producer.publish([record(name, "k", value)])
            (found,) = await reader.batch(max_records=10, timeout_seconds=BOUND_SECONDS)
            assert found.value == value.encode()


async def test_an_idle_reader_leaves_its_question_with_the_broker_and_gets_what_comes_at_once(
    kafka: KafkaSettings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "IDLE_SECONDS", 2 * BOUND_SECONDS)
    questions = noted_questions(monkeypatch)
    name = registry.notifications.name
    async with (
        producers.idempotent(kafka) as producer,
        ownership.partition_reader(kafka, topic=name, partition=0, offset=0) as reader,
    ):
        assert await reader.batch(max_records=10, timeout_seconds=IDLE_FOR_SECONDS) == []
        assert sum(questions) == 1
        assert len(questions) <= LOOKS_AT_THE_START
        await producer.publish([record(name, "k", "0")])
        found = await reader.batch(max_records=10, timeout_seconds=BOUND_SECONDS)
    assert [taken.value for taken in found] == [b"0"]


def noted_questions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests for records a client sends, for each time that it looks whether it is to send any."""
    questions: list[int] = []
    look = vars(Fetcher)["_get_actions_per_node"]

    def noting(fetcher: Fetcher, assignment: object) -> tuple[list[object], ...]:
        actions: tuple[list[object], ...] = look(fetcher, assignment)
        questions.append(len(actions[0]))
        return actions

    monkeypatch.setattr(Fetcher, "_get_actions_per_node", noting)
    return questions
