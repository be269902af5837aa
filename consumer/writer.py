"""The writer of one partition: into the table under its epoch, then into the topic in a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consumer import refund_part
from consumer.batches import POSTPONED_FOR, Batch, BatchReader
from consumer.refund_part import RefundPart
from consumer.room import Room
from topsync import metrics, telemetry
from topsync.clock import ServerClock
from topsync.store import orders, refetches, refunds
from topsync.store.database import Pool
from topsync.store.orders import Unpublished, UnstorableError, Version
from topsync.store.refunds import RefundVersion, UnpublishedRefund
from topsync.stream import records
from topsync.stream.producer import Offsets, PartitionPublisher
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tools:
    """What the writers of a process share."""

    topics: Registry
    clock: ServerClock
    pool: Pool
    batches: BatchReader
    room: Room


class PartitionWriter:
    """The one writer of a partition's orders, for one ownership (epoch).

    Of an order, storing and publishing must not overlap: what a version brings is told beside what has been
    published before it.
    """

    def __init__(self, tools: Tools, partition: int, epoch: int, publisher: PartitionPublisher) -> None:
        self._tools = tools
        self._partition = partition
        self._epoch = epoch
        self._publisher = publisher

    async def store(self, batch: Batch) -> None:
        """Write a batch to the table, and note what has to be asked for again. Idempotent.

        Raises:
            NotOwnerError: another process has taken the partition over; nothing was written.
        """
        if batch.versions:
            await self._upsert_all(batch)
        if batch.refunds.versions:
            await self._store_refunds(batch.refunds)
        if postponed := [*batch.postponed, *batch.refunds.postponed]:
            await refetches.postpone(self._tools.pool, postponed, wait=POSTPONED_FOR)

    async def rest(self) -> None:
        """Wait until publishing costs no more than itself; meanwhile more may gather to be published."""
        await self._publisher.rest()

    async def publish(self, batch: Batch, offsets: Offsets) -> list[Unpublished]:
        """Publish what storing a batch has changed, its dead letters and the offsets; says what it was.

        The batch must be stored before: with the offsets its records are done with.

        Raises:
            FencedError: another process has taken the partition over; nothing was published.
            PublishError: Kafka did not take it; see `PartitionPublisher.publish`.
        """
        pool, of_refunds = self._tools.pool, batch.refunds.versions
        ahead = list(batch.ahead)
        if doubtful := batch.doubtful - {version.tid for version in ahead}:
            ahead += await orders.unpublished(pool, doubtful)
        refunds_ahead = await refunds.unpublished(pool, of_refunds) if of_refunds else []
        await self._publish(ahead, refunds_ahead, batch, offsets)
        return ahead

    async def publish_leftovers(self) -> None:
        """Publish what was stored but, after a crash, not published or not noted as such."""
        partitions = self._tools.topics.changes.partitions
        leftovers = [
            version
            for version in await orders.all_unpublished(self._tools.pool)
            if records.partition_of(version.tid, partitions) == self._partition
        ]
        of_refunds = [
            version
            for version in await refunds.all_unpublished(self._tools.pool)
            if records.partition_of(version.tid, partitions) == self._partition
        ]
        if leftovers or of_refunds:
            log.info(
                "publishing what a crash left",
                partition=self._partition,
                orders=len(leftovers),
                refunds=len(of_refunds),
            )
            await self._publish(leftovers, of_refunds, Batch(), {})

    async def _upsert_all(self, batch: Batch) -> None:
        """Write all versions at once; where the database cannot hold one of them, set that one aside."""
        try:
            batch.ahead = await self._upsert(list(batch.versions.values()))
        except UnstorableError:
            for version in batch.versions.values():
                try:
                    batch.ahead += await self._upsert([version])
                except UnstorableError as error:
                    self._tools.batches.set_version_aside(version, batch, str(error))

    async def _upsert(self, versions: list[Version]) -> list[Unpublished]:
        written = await orders.upsert(
            self._tools.pool, versions, partition=self._partition, epoch=self._epoch
        )
        return written.ahead

    async def _store_refunds(self, part: RefundPart) -> None:
        """Write all refunds at once; where the database cannot hold one of them, set that one aside."""
        try:
            await self._upsert_refunds(list(part.versions.values()))
        except UnstorableError:
            for version in part.versions.values():
                try:
                    await self._upsert_refunds([version])
                except UnstorableError as error:
                    self._tools.batches.refunds.set_version_aside(version, part, str(error))

    async def _upsert_refunds(self, versions: list[RefundVersion]) -> None:
        await refunds.upsert(self._tools.pool, versions, partition=self._partition, epoch=self._epoch)

    async def _publish(
        self,
        ahead: Sequence[Unpublished],
        refunds_ahead: Sequence[UnpublishedRefund],
        batch: Batch,
        offsets: Offsets,
    ) -> None:
        tools = self._tools
        now = tools.clock.estimate()
        published = [
            records.order(
                tools.topics.orders.name,
                tid=version.tid,
                seller_id=version.seller_id,
                revision=version.revision,
                status=version.status,
                modified=version.modified,
                fetched_at=version.fetched_at,
                published_at=now,
                hinted_at=journey.hinted_at if (journey := batch.journeys.get(version.tid)) else None,
                value=version.value,
                step=version.step,
                found_by=version.source,
            )
            for version in ahead
        ]
        part = batch.refunds
        published += [
            refund_part.record(tools.topics.refunds.name, version, part, at=now) for version in refunds_ahead
        ]
        await self._publisher.publish([*published, *batch.dead_letters, *part.dead_letters], offsets)
        metrics.ORDERS_PUBLISHED.inc(len(ahead))
        if ahead:
            await orders.mark_published(tools.pool, ahead)
        if refunds_ahead:
            await refunds.mark_published(tools.pool, refunds_ahead)
            part.observe(refunds_ahead, at=tools.clock.estimate())
