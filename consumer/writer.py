"""The writer of one partition: into the table under its epoch, then into the topic in a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from consumer import erasing, refund_part
from consumer.batches import POSTPONED_FOR, Batch, BatchReader
from consumer.deadletter_share import Limit, Share
from consumer.refund_part import RefundPart
from consumer.room import Room
from topsync import failpoints, metrics, telemetry
from topsync.clock import ServerClock
from topsync.store import erasures, refetches, sellers
from topsync.store.database import Pool
from topsync.store.erasures import Tombstone
from topsync.store.orders import UnpublishedOrder, Version
from topsync.store.refunds import RefundVersion, UnpublishedRefund
from topsync.store.shared_table import SharedTable, SharedTables
from topsync.store.versions import Part, T, Unpublished, UnstorableError, V
from topsync.stream import records
from topsync.stream.producer import Offsets, PartitionPublisher
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

LEFTOVERS_AT_ONCE: Final = 200
"""Of what a crash left, so many are read and published at once, however many there are: Kafka ends a
transaction that takes long, and then all of it would be begun again."""

X = TypeVar("X")


@dataclass(frozen=True, slots=True)
class Tools:
    """What the writers of a process share."""

    topics: Registry
    clock: ServerClock
    pool: Pool
    tables: SharedTables
    batches: BatchReader
    room: Room
    limit: Limit
    """Of the share of records that die."""


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
        self._share = Share(tools.limit)

    async def store(self, batch: Batch) -> None:
        """Write a batch to the table, take out of it what is erased, and note what has to be asked for again.

        Idempotent.

        Raises:
            NotOwnerError: another process has taken the partition over; nothing was written.
            TooManyDeadLettersError: more of the records die than is allowed; the batch must not be published.
        """
        await self._weigh(batch)
        if batch.versions:
            await self._store_orders(batch)
            failpoints.reach("enricher.stored")
            await self._weigh(batch)
        if batch.refunds.versions:
            await self._store_refunds(batch.refunds)
            failpoints.reach("refunds.stored")
        if postponed := [*batch.postponed, *batch.refunds.postponed]:
            await refetches.postpone(self._tools.pool, postponed, wait=POSTPONED_FOR)
            failpoints.reach("enricher.postponed_noted")
        if batch.lingering:
            await refetches.linger(self._tools.pool, batch.lingering, now=self._tools.clock.estimate())
            failpoints.reach("postponing.lingering_noted")
        if batch.given_up:
            await refetches.give_up(self._tools.pool, batch.given_up)
            failpoints.reach("postponing.given_up_noted")
        if batch.erased:
            at = self._tools.clock.estimate()
            await erasures.erase(
                self._tools.pool, batch.erased, partition=self._partition, epoch=self._epoch, at=at
            )
            failpoints.reach("erasing.removed")

    async def _weigh(self, batch: Batch) -> None:
        """Check what has become of a batch's records since the last time."""
        outcomes = batch.take_outcomes()
        some_died = any(outcome.reason for outcome in outcomes)
        spares_one = some_died and await sellers.count_usable(self._tools.pool) > 1
        self._share.take(outcomes, spares_one=spares_one)

    async def rest(self) -> None:
        """Wait until publishing costs no more than itself; meanwhile more may gather to be published."""
        await self._publisher.rest()

    async def publish(self, batch: Batch, offsets: Offsets) -> list[UnpublishedOrder]:
        """Publish what storing a batch has changed, its dead letters and the offsets; says what it was.

        The batch must be stored before, and so must be what the offsets are done with.

        Raises:
            FencedError: another process has taken the partition over; nothing was published.
            PublishError: Kafka did not take it; see `PartitionPublisher.publish`.
        """
        gone = await erasures.tombstones(self._tools.pool, batch.erased) if batch.erased else []
        buried = {one.tid for one in gone}
        ahead = [version for version in batch.ahead if version.tid not in buried]
        if doubtful := batch.doubtful - {version.tid for version in ahead}:
            ahead += await self._tools.tables.orders.unpublished(doubtful)
        refunds_ahead = [version for version in batch.refunds.ahead if version.tid not in buried]
        failpoints.reach("enricher.publishing")
        await self._publish(ahead, refunds_ahead, gone, batch, offsets)
        return ahead

    async def publish_leftovers(self) -> None:
        """Publish what was stored or erased but, after a crash, not published or not noted as such."""
        tables = self._tools.tables
        ahead = [id_ for id_, tid in await tables.orders.unpublished_ids() if self._is_mine(tid)]
        refunds_ahead = [id_ for id_, tid in await tables.refunds.unpublished_ids() if self._is_mine(tid)]
        gone = [one for one in await erasures.all_tombstones(self._tools.pool) if self._is_mine(one.tid)]
        if ahead or refunds_ahead or gone:
            log.info(
                "publishing what a crash left",
                partition=self._partition,
                orders=len(ahead),
                refunds=len(refunds_ahead),
                tombstones=len(gone),
            )
        for ids in _pieces(ahead):
            await self._publish(await tables.orders.unpublished(ids), [], [], Batch(), {})
        for ids in _pieces(refunds_ahead):
            await self._publish([], await tables.refunds.unpublished(ids), [], Batch(), {})
        for tombstones in _pieces(gone):
            await self._publish([], [], tombstones, Batch(), {})

    def _is_mine(self, tid: int) -> bool:
        return records.partition_of(tid, self._tools.topics.changes.partitions) == self._partition

    async def _store_orders(self, batch: Batch) -> None:
        def set_aside(version: Version, detail: str) -> None:
            self._tools.batches.set_version_aside(version, batch, detail)

        batch.ahead = await self._upsert(self._tools.tables.orders, list(batch.versions.values()), set_aside)

    async def _store_refunds(self, part: RefundPart) -> None:
        def set_aside(version: RefundVersion, detail: str) -> None:
            self._tools.batches.refunds.set_version_aside(version, part, detail)

        part.ahead = await self._upsert(self._tools.tables.refunds, list(part.versions.values()), set_aside)

    async def _upsert(
        self, table: SharedTable[V, T], versions: Sequence[V], set_aside: Callable[[V, str], None]
    ) -> list[Unpublished[T]]:
        """Write all versions at once; where the database cannot hold one of them, set that one aside."""
        try:
            return (await table.upsert(Part(self._partition, self._epoch, versions))).ahead
        except UnstorableError as error:
            if len(versions) == 1:
                set_aside(versions[0], str(error))
                return []
        return [ahead for version in versions for ahead in await self._upsert(table, [version], set_aside)]

    async def _publish(
        self,
        ahead: Sequence[UnpublishedOrder],
        refunds_ahead: Sequence[UnpublishedRefund],
        gone: Sequence[Tombstone],
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
                caused_by=batch.traces.get(version.tid),
            )
            for version in ahead
        ]
        part = batch.refunds
        published += [
            refund_part.record(
                tools.topics.refunds.name, version, part, at=now, caused_by=batch.traces.get(version.tid)
            )
            for version in refunds_ahead
        ]
        published += [erasing.record_of(one, tools.topics, published_at=now) for one in gone]
        await self._publisher.publish([*published, *batch.dead_letters, *part.dead_letters], offsets)
        failpoints.reach("enricher.published")
        metrics.ORDERS_PUBLISHED.inc(len(ahead))
        metrics.TOMBSTONES_PUBLISHED.inc(len(gone))
        if ahead:
            await tools.tables.orders.mark_published(ahead)
        if refunds_ahead:
            failpoints.reach("refunds.orders_marked")
            await tools.tables.refunds.mark_published(refunds_ahead)
            part.observe(refunds_ahead, at=tools.clock.estimate())
        failpoints.reach("enricher.marked")
        if gone:
            await erasures.forget_tombstones(tools.pool, gone)
            failpoints.reach("erasing.tombstones_forgotten")


def _pieces(found: Sequence[X]) -> Iterator[Sequence[X]]:
    for start in range(0, len(found), LEFTOVERS_AT_ONCE):
        yield found[start : start + LEFTOVERS_AT_ONCE]
