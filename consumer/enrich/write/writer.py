"""The writer of a partition: into the tables under its epoch, then into the topics in a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeVar

from consumer.enrich import erasure, trail
from consumer.enrich.bytes_in_flight import BytesInFlight
from consumer.enrich.dead_letter_share import Limit, Share, outcome_of
from consumer.enrich.kinds.catalogue import KINDS
from consumer.enrich.kinds.kind import AnyKind
from consumer.enrich.oddities import Oddities
from consumer.enrich.read.batch import Batch
from consumer.enrich.read.batches import BatchReader
from consumer.enrich.read.bringing import POSTPONED_FOR
from consumer.enrich.republishing import Piece
from consumer.enrich.write.published import AnyUnpublished, Published
from topsync.base import failpoints, metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.deadletters import box
from topsync.deadletters.box import Original
from topsync.model.kind import Kind
from topsync.store import erasures, refetches, sellers
from topsync.store.database import Pool
from topsync.store.open_letters import Subject
from topsync.store.shared_table import SharedTables
from topsync.store.versions import PartitionRows, UnstorableError, Version
from topsync.stream import records
from topsync.stream.producer import Offsets, PartitionPublisher
from topsync.stream.records import Record
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

LEFTOVERS_AT_ONCE: Final = 200
"""The most that is read and published at once of what a crash left: Kafka ends a
transaction that takes long, and then all of it would begin again."""

UNSTORABLE: Final = "unstorable"
"""The reason of the dead letter of a version that the table cannot hold."""

_REPUBLISHED: Final = {kind: metrics.RECORDS_REPUBLISHED.labels(kind.plural) for kind in Kind}

X = TypeVar("X")


@dataclass(frozen=True, slots=True)
class Tools:
    """What the writers of a process share."""

    topics: Registry
    clock: ServerClock
    pool: Pool
    tables: SharedTables
    batches: BatchReader
    bytes_in_flight: BytesInFlight
    limit: Limit
    """The limits of the share of records that die."""
    oddities: Oddities = field(default_factory=Oddities)


class PartitionWriter:
    """The only writer of a partition's orders and their parts, for one ownership (epoch).

    A version is stored, published and noted as published before the next version of the same thing is stored:
    what a version brings is found beside what has been published before it.
    """

    def __init__(self, tools: Tools, partition: int, epoch: int, publisher: PartitionPublisher) -> None:
        self._tools = tools
        self._partition = partition
        self._epoch = epoch
        self._publisher = publisher
        self._share = Share(tools.limit)

    async def store(self, batch: Batch) -> None:
        """Write a batch to the tables, take out what is erased, note what has to be asked for again.

        Idempotent.

        Raises:
            NotOwnerError: another process has taken the partition over; nothing was written.
            TooManyDeadLettersError: too many of the records die; the batch must not be published.
        """
        await self._weigh(batch)
        for kind in KINDS.values():
            if batch.of(kind.kind).versions:
                await self._store_versions(kind, batch)
                failpoints.reach(kind.points.stored)
                await self._weigh(batch)
        if batch.postponed:
            postponed = [batch.later(refetch) for refetch in batch.postponed]
            await refetches.postpone(self._tools.pool, postponed, wait=POSTPONED_FOR)
            trail.waits(batch.postponed, [])
            failpoints.reach("enricher.postponed_noted")
        if batch.lingering:
            lingering = [replace(each, order=batch.later(each.order)) for each in batch.lingering]
            await refetches.linger(self._tools.pool, lingering, now=self._tools.clock.estimate())
            trail.waits([], batch.lingering)
            failpoints.reach("postponing.lingering_noted")
        if batch.given_up:
            await refetches.give_up(self._tools.pool, batch.given_up)
            failpoints.reach("postponing.given_up_noted")
        if batch.erased:
            at = self._tools.clock.estimate()
            await erasures.erase(
                self._tools.pool, batch.erased, partition=self._partition, epoch=self._epoch, at=at
            )
            trail.erased(batch.erased)
            failpoints.reach("erasure.removed")

    async def _weigh(self, batch: Batch) -> None:
        """Check what became of a batch's records since the last time; take out repeats of open dead letters.

        What is stored is already noted, dead letters too, so nothing of an order is overlooked here.
        """
        letters = await box.without_repeats(
            self._tools.pool, batch.take_dead_letters(), kept=self._tools.topics.letters_kept
        )
        outcomes = batch.take_outcomes()
        outcomes += [outcome for letter in letters if (outcome := outcome_of(letter)) is not None]
        some_died = any(outcome.reason for outcome in outcomes)
        spares_one = some_died and await sellers.count_usable(self._tools.pool) > 1
        self._share.take(outcomes, spares_one=spares_one)
        for letter in letters:
            letter.report()
        batch.set_aside += letters

    @property
    def free_at(self) -> float:
        """When the next transaction can begin without extra cost, on the event loop's clock."""
        return self._publisher.free_at

    async def rest(self) -> None:
        """Wait until a transaction can begin without extra cost; meanwhile more may gather."""
        await self._publisher.rest()

    async def again(self, piece: Piece) -> Published:
        """What the tables hold of a piece now. Publish it next: later, it may be older than the tables."""
        kind = KINDS[piece.kind]
        return Published.of(kind.kind, await self._tools.tables.of(kind.table).stored(piece.keys))

    async def publish(self, batch: Batch, offsets: Offsets, again: Published | None = None) -> Published:
        """Publish what storing a batch has changed, its dead letters and the offsets; returns what to note.

        The batch must be stored before, and so must be everything before the offsets. What is published
        `again` is not to be noted.

        Raises:
            FencedError: another process has taken the partition over; nothing was published.
            PublishError: Kafka did not take it; see `PartitionPublisher.publish`.
        """
        gone = await erasures.tombstones(self._tools.pool, batch.erased) if batch.erased else []
        buried = {tombstone.tid for tombstone in gone}
        published = Published(tombstones=gone, letters=batch.set_aside)
        for kind in KINDS.values():
            published.versions[kind.kind] = await self._ahead(kind, batch, buried)
        failpoints.reach("enricher.publishing")
        await self._publish(published, batch, offsets, again or Published())
        return published

    async def _ahead(self, kind: AnyKind, batch: Batch, buried: set[int]) -> list[AnyUnpublished]:
        """Versions of a kind that the topic lacks, of orders that are not erased."""
        part = batch.of(kind.kind)
        ahead = [version for version in part.ahead if version.tid not in buried]
        if doubtful := part.doubtful.keys() - {version.key for version in ahead}:
            ahead += await self._tools.tables.of(kind.table).unpublished(doubtful)
        return ahead

    async def note(self, published: Published) -> None:
        """Note what the topics have. Idempotent.

        What a crash leaves unnoted is published once more, as the same revision, before anything else.
        """
        for kind in KINDS.values():
            if versions := published.versions[kind.kind]:
                if kind.points.marking is not None:
                    failpoints.reach(kind.points.marking)
                await self._tools.tables.of(kind.table).mark_published(versions)
        failpoints.reach("enricher.marked")
        if published.tombstones:
            await erasures.forget_tombstones(self._tools.pool, published.tombstones)
            failpoints.reach("erasure.tombstones_forgotten")
        await box.note(self._tools.pool, published.letters, kept=self._tools.topics.letters_kept)

    async def publish_leftovers(self) -> None:
        """Publish what was stored or erased but, after a crash, not published or not noted as such."""
        left = {kind.kind: await self._leftovers(kind) for kind in KINDS.values()}
        gone = [
            tombstone
            for tombstone in await erasures.all_tombstones(self._tools.pool)
            if self._is_mine(tombstone.tid)
        ]
        if any(left.values()) or gone:
            log.info(
                "publishing what a crash left",
                partition=self._partition,
                tombstones=len(gone),
                **{kind.plural: len(ids) for kind, ids in left.items()},
            )
        for kind, ids in left.items():
            table = self._tools.tables.of(KINDS[kind].table)
            for some in _pieces(ids):
                await self._publish_at_once(Published.of(kind, await table.unpublished(some)))
        for tombstones in _pieces(gone):
            await self._publish_at_once(Published(tombstones=tombstones))

    async def _leftovers(self, kind: AnyKind) -> list[int]:
        """The ids of a kind's versions that the topic does not have."""
        found = await self._tools.tables.of(kind.table).unpublished_ids()
        return [id_ for id_, tid in found if self._is_mine(tid)]

    async def _publish_at_once(self, left: Published) -> None:
        await self._publish(left, Batch(), {}, Published())
        await self.note(left)

    def _is_mine(self, tid: int) -> bool:
        return records.partition_of(tid, self._tools.topics.changes.partitions) == self._partition

    async def _store_versions(self, kind: AnyKind, batch: Batch) -> None:
        part = batch.of(kind.kind)
        self._tools.oddities.look(kind.table, part.versions.values())
        part.ahead = await self._upsert(kind, list(part.versions.values()), batch)
        trail.stored(part.versions.values(), part.ahead)

    async def _upsert(self, kind: AnyKind, versions: Sequence[Version], batch: Batch) -> list[AnyUnpublished]:
        """Write all versions at once; where the database cannot hold a version, set that version aside."""
        rows = PartitionRows(self._partition, self._epoch, versions, self._tools.clock.latest_now())
        try:
            return (await self._tools.tables.of(kind.table).upsert(rows)).ahead
        except UnstorableError as error:
            if len(versions) == 1:
                self._set_aside(kind, versions[0], str(error), batch)
                return []
        return [ahead for version in versions for ahead in await self._upsert(kind, [version], batch)]

    def _set_aside(self, kind: AnyKind, version: Version, detail: str, batch: Batch) -> None:
        """Make a dead letter of a version that the table cannot hold."""
        if kind.leads:
            batch.given_up[version.tid] = version.fetched_at
        batch.dead_letters.append(
            box.letter(
                self._tools.topics,
                UNSTORABLE,
                detail,
                Original(version.wire.encode(), records.key_of(version.tid)),
                at=self._tools.clock.now(),
                origin=kind.origin,
                seller_id=version.seller_id,
                subject=Subject(version.tid, kind.kind, version.key, UNSTORABLE),
            )
        )

    async def _publish(self, ahead: Published, batch: Batch, offsets: Offsets, again: Published) -> None:
        now = self._tools.clock.estimate()
        published = [
            *self._records(again, Batch(), now),
            *self._records(ahead, batch, now),
            *(
                erasure.record_of(tombstone, self._tools.topics, published_at=now)
                for tombstone in ahead.tombstones
            ),
        ]
        published += [letter.record for letter in batch.set_aside]
        publishing, trips = self._publisher.publish(published, offsets), batch.trips
        await (publishing if trips is None else trips.publishing(publishing, published, batch.ends()))
        trail.published(ahead.versions, ahead.tombstones)
        failpoints.reach("enricher.published")
        metrics.TOMBSTONES_PUBLISHED.inc(len(ahead.tombstones))
        for kind in KINDS.values():
            if repeated := again.versions[kind.kind]:
                _REPUBLISHED[kind.kind].inc(len(repeated))
            self._measure(kind, ahead.versions[kind.kind], batch)

    def _measure(self, kind: AnyKind, versions: Sequence[AnyUnpublished], batch: Batch) -> None:
        """Count what was published just now, and how fresh it was."""
        metrics.PUBLISHED[kind.kind].inc(len(versions))
        if kind.leads or not versions:  # an order's freshness is measured stage by stage
            return
        hinted_at, at = batch.of(kind.kind).hinted_at, self._tools.clock.estimate()
        for version in versions:
            if (hinted := hinted_at.get(version.key)) is not None:
                metrics.PART_FRESHNESS[kind.kind].observe(max(0.0, (at - hinted).total_seconds()))

    def _records(self, found: Published, batch: Batch, now: datetime) -> Iterator[Record]:
        """The records of these versions, with what the batch knows of how they came."""
        for kind in KINDS.values():
            topic, hinted_at = self._tools.topics.versions[kind.kind].name, batch.of(kind.kind).hinted_at
            for version in found.versions[kind.kind]:
                yield records.version(
                    topic,
                    kind.events,
                    version,
                    published_at=now,
                    hinted_at=hinted_at.get(version.key),
                    caused_by=batch.traces.get(version.tid),
                )


def _pieces(found: list[X]) -> Iterator[list[X]]:
    for start in range(0, len(found), LEFTOVERS_AT_ONCE):
        yield found[start : start + LEFTOVERS_AT_ONCE]
