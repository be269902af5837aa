"""Compares rows of the tables with the compacted topics, whose records must be the same JSON.

The tables are ahead of the topics: what a writer has just stored is published next. So what differs is read
from the table once more, and from the topic up to its end at that time. It differs only where the row has not
moved meanwhile and counts as published.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Final

import orjson
from aiokafka import ConsumerRecord, TopicPartition

from topsync.base.settings import KafkaSettings
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.store.database import Pool
from topsync.store.version_tables import TABLES
from topsync.stream import lookback, records
from topsync.stream.clients import Consumer
from topsync.stream.topics import Registry
from topsync.verify.agreement import digest_of
from topsync.verify.views import records_up_to

ROWS_AT_ONCE: Final = 500_000
"""Rows that are looked for in one reading of a topic: some 150 MB."""

VALUES_AT_ONCE: Final = 1000


class TopicFault(StrEnum):
    """How a record of a topic is wrong."""

    MISSING = "missing in the topic"
    OTHER = "another state in the topic"


@dataclass(frozen=True, slots=True)
class TopicDifference:
    """A row that its topic does not have as the table does."""

    seller_id: int
    kind: Kind
    id: int
    tid: int
    fault: TopicFault


@dataclass(slots=True)
class TopicRowsCompared:
    """What came of comparing tables and topics."""

    rows: int = 0
    """How many were compared."""
    differences: list[TopicDifference] = field(default_factory=list)


Place = tuple[int, Span]
"""A seller, and a half-open span in which its rows are dated: see `topsync.store.versions`."""

Progress = Callable[[Kind, int, int], None]
"""Called with a kind, and with how many records of how many of its topic have been read."""


@dataclass(slots=True)
class _Row:
    seller_id: int
    tid: int
    revision: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class TopicRows:
    """What a comparison of tables and topics needs."""

    pool: Pool
    kafka: KafkaSettings
    topics: Registry

    async def compare(
        self, kinds: Iterable[Kind], places: Collection[Place], *, progress: Progress
    ) -> TopicRowsCompared:
        """Compare the published rows of these places with their topics, each of which is read once or more.

        Raises:
            KafkaError: the cluster does not answer.
        """
        compared = TopicRowsCompared()
        for kind in kinds:
            rows: dict[int, _Row] = {}
            for place in places:
                async for id_, row in self._rows(kind, place):
                    rows[id_] = row
                    if len(rows) >= ROWS_AT_ONCE:
                        await self._compare(compared, kind, rows, progress)
                        rows = {}
            await self._compare(compared, kind, rows, progress)
        return compared

    async def _rows(self, kind: Kind, place: Place) -> AsyncIterator[tuple[int, _Row]]:
        seller_id, span = place
        copies = await TABLES[kind].copies_of_day(self.pool, seller_id, span)
        async for id_, row in self._published(
            kind, seller_id, {id_ for id_, copy in copies.items() if copy.is_published}
        ):
            yield id_, row

    async def _published(
        self, kind: Kind, seller_id: int, ids: Collection[int]
    ) -> AsyncIterator[tuple[int, _Row]]:
        """Of these, the rows that count as published, each as it is in one revision."""
        waiting = iter(ids)
        while some := list(islice(waiting, VALUES_AT_ONCE)):
            before = await TABLES[kind].copies(self.pool, some)
            values = {id_: value async for id_, value in TABLES[kind].values_of(self.pool, some)}
            after = await TABLES[kind].copies(self.pool, some)
            for id_, value in values.items():
                copy = before.get(id_)
                if copy is not None and copy.is_published and copy == after.get(id_):
                    digest = digest_of(orjson.loads(value))
                    yield id_, _Row(seller_id, copy.tid, copy.revision, digest)

    async def _compare(
        self, compared: TopicRowsCompared, kind: Kind, rows: Mapping[int, _Row], progress: Progress
    ) -> None:
        if not rows:
            return
        compared.rows += len(rows)
        topic = self.topics.versions[kind]
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        found: dict[int, bytes | None] = {}
        async with lookback.reader(self.kafka) as consumer:
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            await _read_on(consumer, partitions, rows, found, lambda *read: progress(kind, *read))
            differing = {id_: row for id_, row in rows.items() if found.get(id_) != row.digest}
            again: dict[int, _Row] = {}
            for seller_id in {row.seller_id for row in differing.values()}:
                ids = [id_ for id_, row in differing.items() if row.seller_id == seller_id]
                again |= {id_: row async for id_, row in self._published(kind, seller_id, ids)}
            await _read_on(consumer, partitions, differing, found, lambda *_: None)
        for id_, row in sorted(again.items()):
            if row == differing[id_] and found.get(id_) != row.digest:
                fault = TopicFault.MISSING if found.get(id_) is None else TopicFault.OTHER
                compared.differences.append(TopicDifference(row.seller_id, kind, id_, row.tid, fault))


async def _read_on(
    consumer: Consumer,
    partitions: Collection[TopicPartition],
    wanted: Collection[int],
    found: dict[int, bytes | None],
    progress: Callable[[int, int], None],
) -> None:
    """Read what a topic has up to now, and note the last record of what is wanted; a tombstone is None."""
    ends = await consumer.end_offsets(list(partitions))
    begins = {tp: await consumer.position(tp) for tp in partitions}
    done, total = 0, sum(ends[tp] - begins[tp] for tp in partitions)
    async for batch in records_up_to(consumer, ends):
        for record in batch:
            _note(record, wanted, found)
        done += len(batch)
        progress(done, total)


def _note(
    record: ConsumerRecord[bytes, bytes], wanted: Collection[int], found: dict[int, bytes | None]
) -> None:
    id_ = records.id_of(record.key)
    if id_ is not None and id_ in wanted:
        found[id_] = None if record.value is None else digest_of(orjson.loads(record.value))
