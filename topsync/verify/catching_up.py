"""Brings the tables up to their topics, after the database was restored from a backup.

The topics were not restored: they show what was published after the backup. A writer that went on from the
table as it is would give revisions a second time, and subscribers would pass the new states over. So the
tables take what the topics have. Nobody may write meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeAlias

from aiokafka import ConsumerRecord, TopicPartition
from pydantic import ValidationError

from schemas import cloud_events
from schemas.platform_object import WireForm
from schemas.types import parse_instant
from topsync.base.settings import KafkaSettings
from topsync.model.copy_state import CopyState
from topsync.model.kind import Kind
from topsync.store import deltas, restored
from topsync.store.database import Pool
from topsync.store.version_tables import TABLES
from topsync.store.versions import CaughtUp, PublishedVersion
from topsync.stream import lookback, records
from topsync.stream.topics import Registry
from topsync.verify.views import records_up_to

Taken: TypeAlias = "ConsumerRecord[bytes, bytes]"

IDS_AT_ONCE: Final = 10_000

Progress = Callable[[Kind, int, int], None]
"""Called with a kind, and with how many records of how many of its topic have been read."""


@dataclass(slots=True)
class CaughtUpTopics:
    """What catching up has found and done."""

    rows: dict[Kind, CaughtUp] = field(default_factory=lambda: {kind: CaughtUp() for kind in Kind})
    unreadable: int = 0
    """Records that this release cannot read: the topic keeps them, the table has what it had."""
    erased: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """By seller: rows whose topic says that they were erased after the backup."""


@dataclass(frozen=True, slots=True)
class TopicVersion:
    """The head of a version's record."""

    id: int
    seller_id: int
    revision: int
    record: Taken


def shown(record: Taken) -> TopicVersion | None:
    """What a record is about; None where no writer of ours has written it. Pure."""
    attributes = cloud_events.attributes(record.headers)
    id_ = records.id_of(record.key)
    try:
        seller_id, revision = int(attributes["sellerid"]), int(attributes["revision"])
    except (KeyError, ValueError):
        return None
    return None if id_ is None else TopicVersion(id_, seller_id, revision, record)


def brings_nothing(record: TopicVersion, copy: CopyState | None) -> bool:
    """Whether the table has this version, or has gone on from it. Pure."""
    if copy is None or not copy.is_published or copy.revision < record.revision:
        return False
    modified = parse_instant(cloud_events.attributes(record.record.headers)["time"])
    return copy.revision > record.revision or copy.modified == modified


def version_of(kind: Kind, record: TopicVersion) -> PublishedVersion[Any]:
    """The version as the tables keep it. Pure.

    Raises:
        ValueError: this release cannot read it.
    """
    table, attributes = TABLES[kind], cloud_events.attributes(record.record.headers)
    text = (record.record.value or b"").decode()
    try:
        form = WireForm(table.model, table.model.reread(text), text)
        version = table.version(
            record.seller_id, form, parse_instant(attributes["fetchedat"]), attributes["foundby"]
        ).prepare()
    except (KeyError, ValidationError) as error:
        raise ValueError(type(error).__name__) from None
    step = deltas.text(
        _words(attributes, "transitions"), attributes.get("statusfrom"), _words(attributes, "changedfields")
    )
    return PublishedVersion(version, record.revision, step)


def _words(attributes: dict[str, str], name: str) -> list[str]:
    return [word for word in attributes.get(name, "").split(",") if word]


def layers(batch: Sequence[TopicVersion]) -> list[dict[int, TopicVersion]]:
    """A batch in parts that name each thing once, in the order of its records. Pure."""
    found: list[dict[int, TopicVersion]] = []
    counts: defaultdict[int, int] = defaultdict(int)
    for record in batch:
        place = counts[record.id]
        if place == len(found):
            found.append({})
        found[place][record.id] = record
        counts[record.id] += 1
    return found


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What catching up needs."""

    pool: Pool
    kafka: KafkaSettings
    topics: Registry
    progress: Progress

    async def run(self) -> CaughtUpTopics:
        """Read both topics from their beginning to their end, and bring the tables up to them. Idempotent.

        Raises:
            KafkaError: the cluster does not answer.
        """
        outcome = CaughtUpTopics()
        for kind in Kind:
            await self._read(kind, outcome)
        return outcome

    async def _read(self, kind: Kind, outcome: CaughtUpTopics) -> None:
        topic = self.topics.versions[kind]
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        erased: set[int] = set()
        async with lookback.reader(self.kafka) as consumer:
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            begins = await consumer.beginning_offsets(partitions)
            total, done = sum(ends.values()) - sum(begins.values()), 0
            async for batch in records_up_to(consumer, ends):
                found = [head for record in batch if (head := shown(record)) is not None]
                outcome.unreadable += len(batch) - len(found)
                for layer in layers(found):
                    await self._take(kind, layer, outcome, erased)
                done += len(batch)
                self.progress(kind, done, total)
        waiting = iter(erased)
        while some := list(islice(waiting, IDS_AT_ONCE)):
            for seller_id, rows in (await restored.erased_later(self.pool, kind, some)).items():
                outcome.erased[seller_id] += rows

    async def _take(
        self, kind: Kind, layer: dict[int, TopicVersion], outcome: CaughtUpTopics, erased: set[int]
    ) -> None:
        gone = {id_ for id_, record in layer.items() if record.record.value is None}
        erased |= gone
        erased -= layer.keys() - gone
        await self._raise_floors(layer.values())
        copies = await TABLES[kind].copies(self.pool, layer.keys() - gone)
        wanted = [
            record
            for id_, record in layer.items()
            if id_ not in gone and not brings_nothing(record, copies.get(id_))
        ]
        versions: list[PublishedVersion[Any]] = []
        for record in wanted:
            try:
                versions.append(version_of(kind, record))
            except ValueError:
                outcome.unreadable += 1
        if versions:
            outcome.rows[kind] += await TABLES[kind].catch_up(self.pool, versions)
            await restored.drop_tombstones(
                self.pool, kind, {each.version.key: each.revision for each in versions}
            )

    async def _raise_floors(self, of: Iterable[TopicVersion]) -> None:
        """Whatever comes back of an erased seller begins above what its topics have shown."""
        floors: dict[tuple[int, bool], int] = {}
        for record in of:
            place = (record.seller_id, record.record.value is None)
            floors[place] = max(floors.get(place, 0), record.revision)
        await restored.raise_floors(self.pool, floors)
