"""Partition ownership: a consumer group decides which process writes which partition.

The group subscribes to `changes` only. The owner of its partition i also reads partition i of `snapshots`, by
hand: an order then has one writer by construction, whatever the assignor does. The member reads nothing
itself: each partition has readers of its own, so that a slow reader does not delay the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition

from topsync.base import metrics, starts, telemetry
from topsync.base.settings import KafkaSettings
from topsync.stream import clients, layout, topics
from topsync.stream.clients import Consumer
from topsync.stream.topics import Topic

log = telemetry.get_logger(__name__)

POLL_SECONDS = 1.0
"""The member has nothing to read but must poll, or the group takes it for dead."""

HEARTBEAT_SECONDS = 0.5
"""A member learns of a rebalance by its heartbeats, and everybody waits for the last member to learn of it.
The session time-out does not limit that: it must be as long as restarts take."""

IDLE_SECONDS = 2.0
"""How often a reader asks again where nothing comes; what comes is answered at once. By default, the client
asks twice a second and looks five times a second whether it is to ask: for eight readers, that is a
hundredth of a core."""

QUIET: Final = 5
"""After so many times the gathering of a reader without a batch, the next batch is taken for a lone one."""

LET_GO_SECONDS = 15.0
"""How long a revoked partition's task may take to end; fencing makes a later end harmless."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """The membership of a process: runs a task for each partition that it owns."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        topic: Topic,
        group: str,
        instance_id: str | None,
        session_timeout_seconds: float,
        own: Callable[[int, Member], Coroutine[None, None, None]],
        draining: bool = False,
    ) -> None:
        """With `draining`, the topic may have more partitions than it should; nobody owns the surplus."""
        self._topic = topic
        self._draining = draining
        self._own = own
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._leaving = False
        self._consumer = clients.consumer(
            settings,
            group_id=group,
            group_instance_id=instance_id,
            session_timeout_ms=int(session_timeout_seconds * 1000),
            heartbeat_interval_ms=int(min(HEARTBEAT_SECONDS, session_timeout_seconds / 4) * 1000),
        )

    @property
    def partitions(self) -> list[int]:
        """The partitions that this process owns now."""
        return sorted(self._tasks)

    async def committed(self, topic: str, partition: int) -> int | None:
        """The group's committed offset. Not stable while an earlier owner has a transaction open:
        take the partition's publishing over first (docs/platform/kafka.md).
        """
        offset: int | None = await self._consumer.committed(TopicPartition(topic, partition))
        return offset

    def still_owns(self, partition: int) -> bool:
        """Whether the asking task is the partition's, and was not cancelled to give the partition up.

        A task must ask before it recovers from a failure and goes on: when a task fails and is cancelled at
        the same time, a task group raises only the failure, and the cancellation is lost.
        """
        return self._tasks.get(partition) is asyncio.current_task()

    async def run(self, stop: Callable[[], bool]) -> None:
        """Be a member until `stop()` is true, then give up every partition in an orderly way.

        Raises:
            Exception: the error of a partition's task, if it ended by itself.
            LayoutError: the topic has another number of partitions than it should.
            UnreachableError: the cluster was away for too long at the start.
        """
        try:
            await starts.reach(
                topics.SERVER, self._consumer.start, outages=topics.OUTAGES, may_come=clients.may_come
            )
            self._consumer.subscribe([self._topic.name], listener=self)
            while not stop():
                await self._consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000))
                self._raise_if_one_ended()
                self._require_layout()
        finally:
            self._leaving = True
            await self._let_go(list(self._tasks))
            await self._consumer.stop()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Start one task for each new partition (called by the client)."""
        if self._leaving:
            # The group was rebalanced while the tasks were ending. Nobody would end new tasks, and they would
            # take the partitions from their new owners.
            return
        self._consumer.pause(*assigned)
        for partition in sorted(tp.partition for tp in assigned):
            # Nobody owns the partitions that were added.
            if partition not in self._tasks and partition < self._topic.partitions:
                self._tasks[partition] = asyncio.create_task(
                    self._own(partition, self), name=f"partition-{partition}"
                )
        metrics.PARTITIONS_OWNED.set(len(self._tasks))
        log.info("partitions assigned", partitions=self.partitions)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """End the tasks of the partitions that go elsewhere (called by the client)."""
        await self._let_go([tp.partition for tp in revoked])

    def _require_layout(self) -> None:
        if not self._draining:
            layout.require_known(self._topic, self._consumer.partitions_for_topic(self._topic.name))

    def _raise_if_one_ended(self) -> None:
        for task in self._tasks.values():
            if task.done():
                task.result()

    async def _let_go(self, partitions: list[int]) -> None:
        tasks = [task for partition in partitions if (task := self._tasks.pop(partition, None))]
        metrics.PARTITIONS_OWNED.set(len(self._tasks))
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LET_GO_SECONDS)
            log.info("partitions let go", partitions=partitions, late=[task.get_name() for task in late])


@asynccontextmanager
async def partition_reader(
    settings: KafkaSettings, *, topic: str, partition: int, offset: int | None, gather_seconds: float = 0.0
) -> AsyncIterator[PartitionReader]:
    """A reader of a partition from an offset; without an offset, from the beginning."""
    tp = TopicPartition(topic, partition)
    idle_ms = int(IDLE_SECONDS * 1000)
    async with clients.reader(settings, fetch_max_wait_ms=idle_ms, consumer_timeout_ms=idle_ms) as consumer:
        consumer.assign([tp])
        if offset is None:
            await consumer.seek_to_beginning(tp)
        else:
            consumer.seek(tp, offset)
        yield PartitionReader(consumer, tp, gather_seconds)


class PartitionReader:
    """Reads a partition in batches."""

    def __init__(self, consumer: Consumer, tp: TopicPartition, gather_seconds: float) -> None:
        """For `gather_seconds` after a batch, nothing is fetched where no more is known to be there: what
        comes meanwhile is a batch, and each batch costs much more than each of its records. A batch that
        comes after a quiet time is followed by nothing, most likely: then nobody waits, and no timer rings.
        """
        self._consumer = consumer
        self._gather_seconds = gather_seconds
        self._gathers_until: float | None = None
        self._taken_at = float("-inf")
        self._next = 0
        self.tp = tp

    @property
    def unread(self) -> int:
        """How many records follow those taken so far, by the broker's last answer; asks nobody."""
        end: int | None = self._consumer.highwater(self.tp)
        return 0 if end is None else max(0, end - self._next)

    async def batch(self, *, max_records: int, timeout_seconds: float) -> list[ConsumerRecord[bytes, bytes]]:
        """The next records, at least one unless the time is up."""
        await self._gather()
        batches = await self._consumer.getmany(
            self.tp, timeout_ms=int(timeout_seconds * 1000), max_records=max_records
        )
        taken = [record for records in batches.values() for record in records]
        if taken:
            self._next = taken[-1].offset + 1
            now = asyncio.get_running_loop().time()
            if not self.unread and now < self._taken_at + QUIET * self._gather_seconds:
                # Before the client can fetch again: it would come back with the first record that is written.
                self._consumer.pause(self.tp)
                self._gathers_until = now + self._gather_seconds
            self._taken_at = now
        return taken

    async def _gather(self) -> None:
        if self._gathers_until is not None:
            await asyncio.sleep(max(0.0, self._gathers_until - asyncio.get_running_loop().time()))
            self._consumer.resume(self.tp)
            self._gathers_until = None
