"""Compares the rows of which a certificate speaks with the table and with the compacted topic.

It works at any time afterwards: an order that has changed since is newer than its row, and neither missing
nor older. The rows are read once, by id, and their digests must be those of the certificate.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from typing import Final

import orjson
from aiokafka import ConsumerRecord, TopicPartition

from schemas import cloud_events
from schemas.certificate import Certificate, KindTotal
from schemas.types import parse_instant
from topsync.base.settings import KafkaSettings
from topsync.model.kind import Kind
from topsync.model.row_digest import RowSums
from topsync.store import certificates
from topsync.store.database import Pool
from topsync.store.version_tables import TABLES
from topsync.store.versions import Reached
from topsync.stream import lookback, records
from topsync.stream.topics import Registry
from topsync.verify.views import MODIFIED, records_up_to

MAX_EXAMPLES: Final = 20

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

Row = tuple[int, datetime | None]
"""An object of the certificate: id, and `modified` where it was known."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


class RowFate(StrEnum):
    """What has become of an object of a certificate."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    """It has a later `modified`."""
    PRESENT = "present"
    """It is there; only its id was certified, so that is all there is to compare."""
    ERASED = "erased"
    MISSING = "missing"
    UNPUBLISHED = "unpublished"
    """It is in the table, and no version of it was ever published."""
    BACKWARDS = "backwards"
    """It has an earlier `modified`."""

    @property
    def is_problem(self) -> bool:
        """Whether it contradicts the certificate."""
        return self in (RowFate.MISSING, RowFate.UNPUBLISHED, RowFate.BACKWARDS)


class Copy(Enum):
    """What the rows are compared with."""

    TABLE = "table"
    TOPIC = "topic"


def fate(modified: datetime | None, found: Reached | None) -> RowFate:
    """What has become of an object with this `modified`, where a copy shows this of it."""
    if found is None:
        return RowFate.MISSING
    if not found.was_published:
        return RowFate.UNPUBLISHED
    if modified is None:
        return RowFate.PRESENT
    if found.modified < modified:
        return RowFate.BACKWARDS
    return RowFate.UNCHANGED if found.modified == modified else RowFate.CHANGED


@dataclass(slots=True)
class RowsCompared:
    """What became of a kind's objects in a copy."""

    kind: Kind
    copy: Copy
    fates: Counter[RowFate] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    """Some of those that contradict the certificate."""
    digests: list[str] = field(default_factory=list)
    """Why the rows are not those of the certificate; empty where they are."""

    @property
    def count(self) -> int:
        """How many objects were compared."""
        return self.fates.total()

    @property
    def problems(self) -> list[str]:
        """What contradicts the certificate, in sentences."""
        found = [
            f"{self.fates[how]} {self.kind.plural} are {how} in the {self.copy.value}"
            for how in RowFate
            if how.is_problem and self.fates[how]
        ]
        return [*self.digests, *found, *self.examples]

    def take(self, id_: int, how: RowFate) -> None:
        """Count an object."""
        self.fates[how] += 1
        if how.is_problem and len(self.examples) < MAX_EXAMPLES:
            self.examples.append(f"{self.kind.value} {id_}: {how} in the {self.copy.value}")


async def compare_table(
    pool: Pool, certificate: Certificate, kind: Kind, *, progress: Progress
) -> RowsCompared:
    """Compare with the table, some rows at a time."""
    compared, sums, total = RowsCompared(kind, Copy.TABLE), RowSums(), _total(certificate, kind)
    async for some in certificates.rows(pool, certificate.seller_id, _numbers(certificate, kind)):
        await _look_up(pool, certificate.seller_id, compared, sums.add(some))
        progress(compared.count, total.objects)
    await _look_up(pool, certificate.seller_id, compared, sums.finish())
    progress(compared.count, total.objects)
    compared.digests += _digest_problems(certificate, kind, sums)
    return compared


async def _look_up(pool: Pool, seller_id: int, compared: RowsCompared, rows: Iterable[Row]) -> None:
    wanted = dict(rows)
    found = await TABLES[compared.kind].reached(pool, seller_id, wanted)
    gone = wanted.keys() - found.keys()
    erased = await certificates.erased_among(pool, seller_id, compared.kind, gone) if gone else set()
    for id_, modified in wanted.items():
        how = fate(modified, found.get(id_))
        compared.take(id_, RowFate.ERASED if how is RowFate.MISSING and id_ in erased else how)


async def compare_topic(
    pool: Pool,
    kafka: KafkaSettings,
    topics: Registry,
    certificate: Certificate,
    kind: Kind,
    *,
    progress: Progress,
) -> RowsCompared:
    """Compare with the compacted topic, which is read once from its start to its present end.

    Keeps a few numbers for each object in memory.

    Raises:
        KafkaError: the cluster does not answer.
    """
    compared, sums = RowsCompared(kind, Copy.TOPIC), RowSums()
    looked_for = _LookedFor(certificate.seller_id)
    async for some in certificates.rows(pool, certificate.seller_id, _numbers(certificate, kind)):
        looked_for.add(sums.add(some))
    looked_for.add(sums.finish())
    compared.digests += _digest_problems(certificate, kind, sums)
    topic = topics.versions[kind]
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    async with lookback.reader(kafka) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        done, total = 0, sum(ends.values()) - sum(begins.values())
        async for batch in records_up_to(consumer, ends):
            for record in batch:
                looked_for.take(record)
            done += len(batch)
            progress(done, total)
    for id_, how in looked_for.fates():
        compared.take(id_, how)
    return compared


class _LookedFor:
    """The objects that are looked for in a topic, and how far it has each: three numbers for an object."""

    _UNKNOWN: Final = -1
    _ABSENT: Final = -2
    _ERASED: Final = -3

    def __init__(self, seller_id: int) -> None:
        self._seller = str(seller_id)
        self._ids, self._wanted, self._found = array("q"), array("q"), array("q")

    def add(self, rows: Iterable[Row]) -> None:
        """Look for these as well; in the order of their ids."""
        for id_, modified in rows:
            self._ids.append(id_)
            self._wanted.append(self._UNKNOWN if modified is None else _microseconds(modified))
            self._found.append(self._ABSENT)

    def take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        """Note what a record says of an object; the last record of an object counts."""
        id_ = records.id_of(record.key)
        at = 0 if id_ is None else bisect_left(self._ids, id_)
        if id_ is None or at == len(self._ids) or self._ids[at] != id_:
            return
        if record.value is None:
            self._found[at] = self._ERASED
        elif cloud_events.attributes(record.headers).get("sellerid") == self._seller:
            self._found[at] = _microseconds(parse_instant(orjson.loads(record.value)[MODIFIED]))

    def fates(self) -> Iterator[tuple[int, RowFate]]:
        """What has become of each."""
        for id_, wanted, found in zip(self._ids, self._wanted, self._found, strict=True):
            if found == self._ERASED:
                yield id_, RowFate.ERASED
                continue
            modified = None if wanted == self._UNKNOWN else _moment(wanted)
            yield id_, fate(modified, None if found == self._ABSENT else Reached(_moment(found), True))


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def _moment(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND


def _numbers(certificate: Certificate, kind: Kind) -> list[int]:
    return [each.number for each in certificate.slices if each.kind == kind.value]


def _total(certificate: Certificate, kind: Kind) -> KindTotal:
    return next(total for total in certificate.totals if total.kind == kind.value)


def _digest_problems(certificate: Certificate, kind: Kind, sums: RowSums) -> Iterator[str]:
    """Whether the rows are those that were certified."""
    total = _total(certificate, kind)
    if not sums.objects and total.objects:
        yield (
            f"the rows of {total.objects} {kind.plural} are not kept any more: the seller was erased, or a "
            "later bulk start has rows of its own"
        )
        return
    if sums.objects != total.objects or sums.digest != total.digest:
        yield (
            f"the {sums.objects} {kind.plural} that are kept as rows are not the {total.objects} of the "
            f"certificate: their digest is {sums.digest}"
        )
    for each in certificate.slices:
        if each.kind == kind.value and sums.digest_of(each.number) != each.digest:
            yield f"slice {each.number}: its rows are not those of the certificate"
