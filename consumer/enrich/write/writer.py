"""The writer of one partition: into the table under its epoch, then into the topic in a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from consumer.enrich import dead_letters, erasure
from consumer.enrich.bytes_in_flight import Room
from consumer.enrich.dead_letter_share import Limit, Share
from consumer.enrich.dead_letters import DeadLetter
from consumer.enrich.read.batches import POSTPONED_FOR, Batch, BatchReader
from consumer.enrich.republishing import Piece
from consumer.enrich.write.refund_part import RefundPart
from schemas import events
from topsync.base import failpoints, metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.model.compacted_topic import Compacted
from topsync.model.unpublished import Unpublished
from topsync.store import erasures, open_letters, refetches, sellers
from topsync.store.database import Pool
from topsync.store.erasures import Tombstone
from topsync.store.open_letters import OpenLetter
from topsync.store.orders import OrderVersion, UnpublishedOrder
from topsync.store.refunds import RefundVersion, UnpublishedRefund
from topsync.store.shared_table import SharedTable, SharedTables
from topsync.store.versions import PartitionRows, T, UnstorableError, V
from topsync.stream import records
from topsync.stream.producer import Offsets, PartitionPublisher
from topsync.stream.records import Record
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


@dataclass(slots=True)
class Published:
    """What a transaction has published, and the tables do not know yet."""

    orders: list[UnpublishedOrder] = field(default_factory=list)
    refunds: list[UnpublishedRefund] = field(default_factory=list)
    tombstones: list[Tombstone] = field(default_factory=list)
    letters: list[OpenLetter] = field(default_factory=list)

    def join(self, later: Published) -> None:
        """Take in what was published after this."""
        self.orders += later.orders
        self.refunds += later.refunds
        self.tombstones += later.tombstones
        self.letters += later.letters


class PartitionWriter:
    """The one writer of a partition's orders, for one ownership (epoch).

    An order is stored, published and noted as published before it is stored again: what a version brings is
    told beside what has been published before it.
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
            await self._weigh(batch)
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
        """Check what has become of a batch's records since the last time; repeats of open letters go.

        What is stored is noted already, letters included, so nothing of an order is overlooked here.
        """
        letters = await self._first_ones(batch.take_dead_letters())
        outcomes = batch.take_outcomes()
        outcomes += [letter.outcome for letter in letters if letter.outcome is not None]
        some_died = any(outcome.reason for outcome in outcomes)
        spares_one = some_died and await sellers.count_usable(self._tools.pool) > 1
        self._share.take(outcomes, spares_one=spares_one)
        for letter in letters:
            letter.tell()
        batch.set_aside += letters

    async def _first_ones(self, letters: list[DeadLetter]) -> list[DeadLetter]:
        subjects = {letter.subject for letter in letters if letter.subject is not None}
        if not subjects:
            return letters
        kept = self._tools.topics.letters_kept
        return dead_letters.first_ones(
            letters, await open_letters.among(self._tools.pool, subjects, kept=kept)
        )

    async def rest(self) -> None:
        """Wait until publishing costs no more than itself; meanwhile more may gather to be published."""
        await self._publisher.rest()

    async def again(self, piece: Piece) -> Published:
        """What the tables have of a piece now. Publish it next: later, it may be older than what is there."""
        match piece.topic:
            case Compacted.ORDERS:
                return Published(orders=await self._tools.tables.orders.stored(piece.keys))
            case Compacted.REFUNDS:
                return Published(refunds=await self._tools.tables.refunds.stored(piece.keys))

    async def publish(self, batch: Batch, offsets: Offsets, again: Published | None = None) -> Published:
        """Publish what storing a batch has changed, its dead letters and the offsets; says what to note.

        The batch must be stored before, and so must be what the offsets are done with. What is published
        `again` is not to be noted.

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
        opened = [one for letter in batch.set_aside if (one := letter.opened()) is not None]
        published = Published(ahead, refunds_ahead, gone, opened)
        await self._publish(published, batch, offsets, again or Published())
        return published

    async def note(self, published: Published) -> None:
        """Note what the topics have. Idempotent.

        What a crash leaves unnoted is published once more, as the same revision, before anything else.
        """
        tables = self._tools.tables
        if published.orders:
            await tables.orders.mark_published(published.orders)
        if published.refunds:
            failpoints.reach("refunds.orders_marked")
            await tables.refunds.mark_published(published.refunds)
        failpoints.reach("enricher.marked")
        if published.tombstones:
            await erasures.forget_tombstones(self._tools.pool, published.tombstones)
            failpoints.reach("erasing.tombstones_forgotten")
        if published.letters:
            kept = self._tools.topics.letters_kept
            await open_letters.note(self._tools.pool, published.letters, kept=kept)

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
            await self._publish_at_once(Published(orders=await tables.orders.unpublished(ids)))
        for ids in _pieces(refunds_ahead):
            await self._publish_at_once(Published(refunds=await tables.refunds.unpublished(ids)))
        for tombstones in _pieces(gone):
            await self._publish_at_once(Published(tombstones=tombstones))

    async def _publish_at_once(self, left: Published) -> None:
        await self._publish(left, Batch(), {}, Published())
        await self.note(left)

    def _is_mine(self, tid: int) -> bool:
        return records.partition_of(tid, self._tools.topics.changes.partitions) == self._partition

    async def _store_orders(self, batch: Batch) -> None:
        def set_aside(version: OrderVersion, detail: str) -> None:
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
            latest_now = self._tools.clock.latest_now()
            return (
                await table.upsert(PartitionRows(self._partition, self._epoch, versions, latest_now))
            ).ahead
        except UnstorableError as error:
            if len(versions) == 1:
                set_aside(versions[0], str(error))
                return []
        return [ahead for version in versions for ahead in await self._upsert(table, [version], set_aside)]

    async def _publish(self, ahead: Published, batch: Batch, offsets: Offsets, again: Published) -> None:
        topics, clock, part = self._tools.topics, self._tools.clock, batch.refunds
        now = clock.estimate()
        published = [
            *self._records(again, Batch(), now),
            *self._records(ahead, batch, now),
            *(erasure.record_of(one, topics, published_at=now) for one in ahead.tombstones),
        ]
        await self._publisher.publish([*published, *(letter.record for letter in batch.set_aside)], offsets)
        failpoints.reach("enricher.published")
        metrics.ORDERS_PUBLISHED.inc(len(ahead.orders))
        metrics.TOMBSTONES_PUBLISHED.inc(len(ahead.tombstones))
        metrics.RECORDS_REPUBLISHED.labels("orders").inc(len(again.orders))
        metrics.RECORDS_REPUBLISHED.labels("refunds").inc(len(again.refunds))
        part.observe(ahead.refunds, at=clock.estimate())

    def _records(self, found: Published, batch: Batch, now: datetime) -> Iterator[Record]:
        """The records of these versions, with what the batch knows of how they came."""
        topics = self._tools.topics
        for version in found.orders:
            yield records.version(
                topics.orders.name,
                events.ORDERS,
                version,
                published_at=now,
                hinted_at=journey.hinted_at if (journey := batch.journeys.get(version.tid)) else None,
                caused_by=batch.traces.get(version.tid),
            )
        for refund in found.refunds:
            yield records.version(
                topics.refunds.name,
                events.REFUNDS,
                refund,
                published_at=now,
                hinted_at=batch.refunds.hinted_at.get(refund.key),
                caused_by=batch.traces.get(refund.tid),
            )


def _pieces(found: list[X]) -> Iterator[list[X]]:
    for start in range(0, len(found), LEFTOVERS_AT_ONCE):
        yield found[start : start + LEFTOVERS_AT_ONCE]
