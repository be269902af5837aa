"""What the topics hold of an order, read backwards from their ends within bounds of time and number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError

from schemas import cloud_events
from schemas.change import Change
from schemas.types import parse_instant
from topsync.base.settings import KafkaSettings
from topsync.deadletters import letters
from topsync.deadletters.letters import Letter
from topsync.model import named
from topsync.model.kind import PARTS, Kind
from topsync.model.refetch import OrderPart
from topsync.stream import clients, lookback, records
from topsync.stream.clients import Consumer
from topsync.stream.topics import Registry, Topic

MOST_OFFSETS: Final = 100_000
"""At most so many records of a partition: a day and more of a busy partition, read in some seconds."""

PIECE_OFFSETS: Final = 2000
"""Records read at once; between two pieces we check whether there is still time."""

LOOKING_SECONDS: Final = 30.0
"""For all topics together. What is not read by then is left out, and the story says so."""

MOST_KEPT: Final = 300
"""How many records of the order are kept for each topic, the newest."""

CLOCKS_APART: Final = timedelta(hours=1)
"""How far Kafka's timestamps, by our machines' clocks, may be from the platform's."""

NOTHING_READ: Final = -1

ConsumedRecord: TypeAlias = "ConsumerRecord[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class WhereRecorded:
    """Where a record is, and when Kafka stored it."""

    topic: str
    """The registry's short word: `changes`, `orders`, ..."""
    partition: int
    offset: int
    at: datetime

    def __str__(self) -> str:
        return f"{self.topic} {self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class HintRecord:
    """A hint in `changes`."""

    where: WhereRecorded
    change: Change
    ahead: int | None
    """Records from the first that the enrichers are not done with up to this record; 0: they are done with
    it; None: nobody knows."""


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """A whole order in `snapshots`, or a part of it. What is in it is not kept."""

    where: WhereRecorded
    as_of: datetime
    reason: str
    found_by: str
    ahead: int | None
    """As of a hint."""
    part: str = ""
    """The kind and id of a part; empty for the order itself."""


@dataclass(frozen=True, slots=True)
class ErasureRecord:
    """A request in `changes` to erase the order."""

    where: WhereRecorded
    ahead: int | None
    """As of a hint."""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A version in a compacted topic, by its headers. What is in it is not kept."""

    where: WhereRecorded
    id: int
    seller_id: int | None
    revision: int
    published_at: datetime
    fetched_at: datetime | None
    modified: datetime | None
    hinted_at: datetime | None
    status: str
    status_from: str | None
    transitions: tuple[str, ...]
    changed: tuple[str, ...]
    found_by: str
    is_tombstone: bool


@dataclass(frozen=True, slots=True)
class LookedThrough:
    """How far a topic was looked through for the order, backwards from its end."""

    topic: str
    back_to: datetime | None
    """When Kafka stored the oldest record that was looked at; None: there was no record."""
    is_complete: bool
    """Whether everything in the topic since the requested time was looked at."""


@dataclass(slots=True)
class OrderRecords:
    """What the topics hold of an order; each kind is in the order of the topic."""

    hints: list[HintRecord] = field(default_factory=list)
    erasures: list[ErasureRecord] = field(default_factory=list)
    snapshots: list[SnapshotRecord] = field(default_factory=list)
    versions: list[VersionRecord] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    looked: list[LookedThrough] = field(default_factory=list)
    unread_changes: int | None = None
    """Records of the order's partition of `changes` that the enrichers are not done with."""


async def of_order(
    kafka: KafkaSettings,
    registry: Registry,
    group: str,
    tid: int,
    *,
    parts: Collection[OrderPart],
    since: datetime,
    seconds: float = LOOKING_SECONDS,
) -> OrderRecords:
    """Look for an order's records that Kafka stored at or after `since`; `group` is the enrichers'.

    Raises:
        KafkaError: the cluster does not answer.
        StalledError: it does not deliver its records.
    """
    async with _searching(kafka, registry, group, tid, since=since, seconds=seconds) as search:
        return await search.all_of(tid, parts)


@asynccontextmanager
async def _searching(
    kafka: KafkaSettings, registry: Registry, group: str, tid: int, *, since: datetime, seconds: float
) -> AsyncIterator[_Search]:
    until = asyncio.get_running_loop().time() + seconds
    async with clients.admin_client(kafka) as admin:
        (described,) = await admin.describe_topics([registry.dead_letters.name])
    number = records.partition_of(tid, registry.changes.partitions)
    worked_on = [TopicPartition(topic.name, number) for topic in (registry.changes, registry.snapshots)]
    async with lookback.reader(kafka) as consumer, clients.reader(kafka, group_id=group) as enrichers:
        # Assigned once: aiokafka's work for a group ends with an error if it is assigned anew meanwhile.
        enrichers.assign(worked_on)
        enrichers.pause(*worked_on)
        letter_partitions = len(described["partitions"])
        yield _Search(consumer, enrichers, registry, since - CLOCKS_APART, until, letter_partitions)


@dataclass(frozen=True, slots=True)
class _Search:
    consumer: Consumer
    enrichers: Consumer
    """What the enrichers' group has committed of the order's partitions; it reads nothing."""
    registry: Registry
    since: datetime
    until: float
    """On the loop's clock."""
    letter_partitions: int

    async def all_of(self, tid: int, parts: Collection[OrderPart]) -> OrderRecords:
        key, found = records.key_of(tid), OrderRecords()
        number = records.partition_of(tid, self.registry.changes.partitions)

        def is_of_it(record: ConsumedRecord) -> bool:
            return bool(record.key == key)

        changes = await self._find(found, self.registry.changes, "changes", [number], is_of_it)
        done = await self._done(TopicPartition(self.registry.changes.name, number))
        ends = await self.consumer.end_offsets([TopicPartition(self.registry.changes.name, number)])
        found.unread_changes = None if done is None else max(0, *(end - done for end in ends.values()))
        _sort_changes(changes, done, found)
        versions = await self._find(found, self.registry.orders, "orders", [number], is_of_it)
        letters_found = await self._find(
            found,
            self.registry.dead_letters,
            "dead letters",
            range(self.letter_partitions),
            lambda record: letters.read(record).tid == tid,
        )
        found.letters = list(map(letters.read, letters_found))
        snapshots = await self._find(found, self.registry.snapshots, "snapshots", [number], is_of_it)
        done = await self._done(TopicPartition(self.registry.snapshots.name, number))
        found.snapshots = [_snapshot(record, done) for record in snapshots]
        hinted = {OrderPart(kind, part.id) for hint in found.hints for kind, part in named.parts(hint.change)}
        for kind in PARTS:
            keys = {records.key_of(part.id) for part in {*parts, *hinted} if part.kind is kind}
            if keys:
                versions += await self._find_parts(found, kind, keys)
        found.versions = [
            version for record in versions if (version := _version(record, self.registry)) is not None
        ]
        return found

    async def _find_parts(
        self, found: OrderRecords, kind: Kind, keys: Collection[bytes]
    ) -> list[ConsumedRecord]:
        topic = self.registry.versions[kind]
        numbers = sorted({records.partition_of_key(key, topic.partitions) for key in keys})
        return await self._find(found, topic, kind.plural, numbers, lambda record: record.key in keys)

    async def _find(
        self,
        found: OrderRecords,
        topic: Topic,
        word: str,
        numbers: Iterable[int],
        is_meant: Callable[[ConsumedRecord], bool],
    ) -> list[ConsumedRecord]:
        """The newest wanted records of these partitions, in the order of the topic."""
        meant: list[ConsumedRecord] = []
        oldest_ms, is_complete = NOTHING_READ, True
        for tp in (TopicPartition(topic.name, number) for number in numbers):
            self.consumer.assign([tp])
            begin, end = await lookback.bounds(self.consumer, tp, self.since)
            bound = max(begin, end - MOST_OFFSETS)
            is_complete = is_complete and bound == begin
            pieces = lookback.newest_first(self.consumer, tp, bound, end, offsets_at_once=PIECE_OFFSETS)
            async for start, piece in pieces:
                if piece:
                    oldest_ms = piece[0].timestamp if oldest_ms < 0 else min(oldest_ms, piece[0].timestamp)
                meant[:0] = filter(is_meant, piece)
                has_enough = len(meant) >= MOST_KEPT or asyncio.get_running_loop().time() >= self.until
                if has_enough and start > bound:
                    is_complete = False
                    break
        back_to = None if oldest_ms < 0 else _instant_of(oldest_ms)
        found.looked.append(LookedThrough(word, back_to, is_complete))
        return meant[-MOST_KEPT:]

    async def _done(self, tp: TopicPartition) -> int | None:
        """The first offset that the enrichers are not done with; None where nobody knows."""
        try:
            return int(await self.enrichers.committed(tp) or 0)
        except GroupCoordinatorNotAvailableError:
            return None


def _sort_changes(found: Iterable[ConsumedRecord], done: int | None, into: OrderRecords) -> None:
    for record in found:
        where, ahead = _where(record, "changes"), _ahead(record, done)
        if cloud_events.attributes(record.headers).get("type") == cloud_events.ERASURE_TYPE:
            into.erasures.append(ErasureRecord(where, ahead))
            continue
        try:
            change = Change.model_validate_json(record.value or b"")
        except ValueError:  # pydantic's errors are ValueErrors; it has a dead letter
            continue
        into.hints.append(HintRecord(where, change, ahead))


def _snapshot(record: ConsumedRecord, done: int | None) -> SnapshotRecord:
    about = cloud_events.attributes(record.headers)
    where = _where(record, "snapshots")
    as_of = _instant(about.get("time")) or where.at
    part = f"{about['kind']} {about.get('subject', '')}" if "kind" in about else ""
    reason, found_by = about.get("reason", ""), about.get("foundby", "bootstrap")
    return SnapshotRecord(where, as_of, reason, found_by, _ahead(record, done), part)


def _version(record: ConsumedRecord, registry: Registry) -> VersionRecord | None:
    """None for a record that somebody else made."""
    about = cloud_events.attributes(record.headers)
    kind = next(kind for kind, topic in registry.versions.items() if topic.name == record.topic)
    where = _where(record, kind.plural)
    id_, revision = records.id_of(record.key), records.id_of(about.get("revision", "").encode())
    if id_ is None or revision is None:
        return None
    return VersionRecord(
        where=where,
        id=id_,
        seller_id=records.id_of(about.get("sellerid", "").encode()),
        revision=revision,
        published_at=_instant(about.get("publishedat")) or where.at,
        fetched_at=_instant(about.get("fetchedat")),
        modified=_instant(about.get("time")),
        hinted_at=_instant(about.get("hintedat")),
        status=about.get("status", ""),
        status_from=about.get("statusfrom"),
        transitions=_words(about.get("transitions")),
        changed=_words(about.get("changedfields")),
        found_by=about.get("foundby", ""),
        is_tombstone=record.value is None,
    )


def _where(record: ConsumedRecord, topic: str) -> WhereRecorded:
    return WhereRecorded(topic, record.partition, record.offset, _instant_of(record.timestamp))


def _ahead(record: ConsumedRecord, done: int | None) -> int | None:
    return None if done is None else max(0, record.offset + 1 - done)


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _instant(text: str | None) -> datetime | None:
    try:
        return parse_instant(text)
    except ValueError:
        return None


def _instant_of(timestamp_ms: int) -> datetime:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
