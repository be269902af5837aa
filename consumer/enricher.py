"""The enricher: owns partitions, and is the one writer of their orders (design 4).

Taking a partition over happens in this order, because each step relies on the one before:

1. raise the partition's epoch in PostgreSQL: the former owner can write no row any more;
2. start the partition's transactional producer: Kafka fences the former owner and aborts what it has open;
3. read the committed offsets: only now are they final;
4. publish what a crash left stored but unpublished;
5. read `changes` and `snapshots` from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from aiokafka.errors import KafkaError

from consumer.backlog import Backlog
from consumer.batches import POSTPONED_FOR, Batch, BatchReader
from topsync import metrics, retry, telemetry
from topsync.clock import ServerClock
from topsync.service import Lifetime
from topsync.settings import EnricherSettings, KafkaSettings
from topsync.store import orders, refetches
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.orders import NotOwnerError, Unpublished, UnstorableError, Version
from topsync.stream import ownership, records
from topsync.stream import producer as producers
from topsync.stream.ownership import Member, PartitionReader
from topsync.stream.producer import FencedError, PartitionPublisher
from topsync.stream.topics import Registry
from topsync.top.errors import CallLimitedError, RetryLaterError

log = telemetry.get_logger(__name__)

READ_TIMEOUT_SECONDS = 1.0

RESTART = retry.Policy(max_attempts=20, first_wait_seconds=0.5, max_wait_seconds=15.0)
"""How a failed writer takes its partition over anew; after so many failures in a row the process ends."""

LONGEST_WAIT_SECONDS = 60.0
"""Of a longer ban, the gate tells at the next attempt, without a call."""

HEALTHY_SECONDS = 30.0
"""A writer that lived so long starts counting its failures anew."""

PASSING_ERRORS = (*OUTAGE_ERRORS, KafkaError, FencedError, NotOwnerError, RetryLaterError, CallLimitedError)
"""What a new take-over can mend. Everything else is a defect and ends the process."""


@dataclass(frozen=True, slots=True)
class Enricher:
    """One process of the enrichers."""

    settings: EnricherSettings
    kafka: KafkaSettings
    topics: Registry
    clock: ServerClock
    pool: Pool
    batches: BatchReader
    owner: str
    """Who this process is, for people who look at the table of owners."""

    async def run(self, lifetime: Lifetime) -> None:
        """Own partitions until the process is asked to end; what is in flight is finished or undone."""
        member = Member(
            self.kafka,
            topic=self.topics.changes.name,
            group=self.settings.enricher_group,
            instance_id=self.settings.enricher_instance_id,
            session_timeout_seconds=self.settings.session_timeout_seconds,
            own=self._own,
        )
        lifetime.set_ready()
        await member.run(lambda: lifetime.stopping)

    async def _own(self, partition: int, member: Member) -> None:
        """Write a partition's orders until cancelled, through every failure that can pass."""
        loop = asyncio.get_running_loop()
        failures = outages = 0
        while True:
            began = loop.time()
            try:
                await self._write(partition, member)
            except Exception as error:
                if loop.time() - began > HEALTHY_SECONDS:
                    failures = outages = 0
                # A ban or an outage of the platform is no failure of ours, however long it is.
                if _is_the_platforms(error):
                    outages += 1
                else:
                    failures += 1
                if not _is_passing(error) or failures >= (RESTART.max_attempts or 0):
                    raise
                if not member.still_owns(partition):
                    return
                metrics.WRITER_RESTARTS.inc()
                log.warning(
                    "partition writer failed; taking over anew", partition=partition, error=repr(error)
                )
                await asyncio.sleep(self._wait_seconds(error, failures + outages))

    def _wait_seconds(self, error: Exception, failures: int) -> float:
        """How long to leave a partition alone after a failure."""
        if any(isinstance(leaf, FencedError | NotOwnerError) for leaf in _leaves(error)):
            # Somebody else owns it. The group tells us so within a session time-out; coming back sooner
            # would only take it away from its rightful owner.
            return self.settings.session_timeout_seconds
        return min(LONGEST_WAIT_SECONDS, _banned_for_seconds(error)) or RESTART.wait_seconds(failures)

    async def _write(self, partition: int, member: Member) -> None:
        """Take a partition over and write its orders until cancelled or failed."""
        epoch = await orders.take_over(self.pool, partition, self.owner)
        group = self.settings.enricher_group
        async with producers.partition_publisher(
            self.kafka,
            group=group,
            partition=partition,
            spacing_seconds=self.settings.publish_spacing_seconds,
        ) as publisher:
            writer = PartitionWriter(self, partition, epoch, publisher)
            await writer.publish_leftovers()
            changes, snapshots = self.topics.changes.name, self.topics.snapshots.name
            async with (
                ownership.partition_reader(
                    self.kafka,
                    topic=changes,
                    partition=partition,
                    offset=await member.committed(changes, partition),
                ) as changes_reader,
                ownership.partition_reader(
                    self.kafka,
                    topic=snapshots,
                    partition=partition,
                    offset=await member.committed(snapshots, partition),
                ) as snapshots_reader,
                asyncio.TaskGroup() as tasks,
            ):
                log.info("partition taken over", partition=partition, epoch=epoch)
                tasks.create_task(writer.write_all(changes_reader, self.settings.enricher_batch_changes))
                tasks.create_task(writer.write_all(snapshots_reader, self.settings.enricher_batch_snapshots))


class PartitionWriter:
    """The one writer of a partition's orders, for one ownership (epoch).

    Both topics are written by this one writer, a batch at a time: a change waits for one batch of
    snapshots at most, and neither topic starves. Fetching happens before, outside the lock.
    """

    def __init__(self, enricher: Enricher, partition: int, epoch: int, publisher: PartitionPublisher) -> None:
        self._enricher = enricher
        self._partition = partition
        self._epoch = epoch
        self._publisher = publisher
        self._lock = asyncio.Lock()

    async def write_all(self, reader: PartitionReader, max_records: int) -> None:
        """Read and write until cancelled."""
        own = self._enricher.settings
        backlog = Backlog(own.backlog_changes, timedelta(seconds=own.backlog_fresh_seconds))
        while True:
            taken = await reader.batch(max_records=max_records, timeout_seconds=READ_TIMEOUT_SECONDS)
            if not taken:
                continue
            batch = await self._enricher.batches.read(taken, backlog=backlog, unread=reader.unread)
            async with self._lock:
                await self._write(batch, {reader.tp: taken[-1].offset + 1})

    async def publish_leftovers(self) -> None:
        """Publish what was stored but, after a crash, not published or not noted as such."""
        partitions = self._enricher.topics.changes.partitions
        leftovers = [
            version
            for version in await orders.all_unpublished(self._enricher.pool)
            if records.partition_of(version.tid, partitions) == self._partition
        ]
        if leftovers:
            log.info("publishing what a crash left", partition=self._partition, orders=len(leftovers))
            await self._publish(leftovers, Batch(), {})

    async def _write(self, batch: Batch, offsets: producers.Offsets) -> None:
        enricher = self._enricher
        if batch.versions:
            await self._store(batch)
        if batch.postponed:
            # Before the offsets: a hint that is committed and not noted would be forgotten.
            await refetches.postpone(enricher.pool, batch.postponed, wait=POSTPONED_FOR)
        ahead = await orders.unpublished(enricher.pool, batch.tids) if batch.tids else []
        await self._publish(ahead, batch, offsets)

    async def _store(self, batch: Batch) -> None:
        """Write all versions at once; where the database cannot hold one of them, set that one aside."""
        try:
            await self._upsert(list(batch.versions.values()))
        except UnstorableError:
            for version in batch.versions.values():
                try:
                    await self._upsert([version])
                except UnstorableError as error:
                    self._enricher.batches.set_version_aside(version, batch, str(error))

    async def _upsert(self, versions: list[Version]) -> None:
        await orders.upsert(self._enricher.pool, versions, partition=self._partition, epoch=self._epoch)

    async def _publish(self, ahead: Sequence[Unpublished], batch: Batch, offsets: producers.Offsets) -> None:
        enricher = self._enricher
        now = enricher.clock.estimate()
        published = [
            records.order(
                enricher.topics.orders.name,
                tid=version.tid,
                seller_id=version.seller_id,
                revision=version.revision,
                status=version.status,
                modified=version.modified,
                fetched_at=version.fetched_at,
                published_at=now,
                hinted_at=batch.hinted_at.get(version.tid),
                value=version.value,
                step=version.step,
                found_by=version.source,
            )
            for version in ahead
        ]
        await self._publisher.publish([*published, *batch.dead_letters], offsets)
        if ahead:
            await orders.mark_published(enricher.pool, ahead)
        metrics.ORDERS_PUBLISHED.inc(len(ahead))
        for version in ahead:
            if hinted_at := batch.hinted_at.get(version.tid):
                metrics.FRESHNESS.observe(max(0.0, (now - hinted_at).total_seconds()))


def _is_passing(error: Exception) -> bool:
    return all(isinstance(leaf, PASSING_ERRORS) for leaf in _leaves(error))


def _is_the_platforms(error: Exception) -> bool:
    return all(isinstance(leaf, RetryLaterError | CallLimitedError) for leaf in _leaves(error))


def _banned_for_seconds(error: Exception) -> float:
    """How long the platform, or our own budget, wants us to wait; 0 where it is something else."""
    return max(
        (leaf.wait_seconds for leaf in _leaves(error) if isinstance(leaf, CallLimitedError)), default=0.0
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of them, or the one error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
