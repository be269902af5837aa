"""What an audit compares: each kind that is kept, and how it reads truth, table and topic."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from aiokafka import ConsumerRecord, TopicPartition

from schemas.platform_object import WireForm
from schemas.types import parse_instant
from topsync.base.settings import KafkaSettings
from topsync.model.kind import Kind
from topsync.store.database import Pool
from topsync.store.version_tables import TABLES, AnyTable
from topsync.store.witness import ReadPosition
from topsync.stream import clients, lookback
from topsync.stream.clients import Consumer
from topsync.stream.topics import Registry
from topsync.verify.agreement import DIGEST_BYTES, PublishedState, ShownObject, digest_of, shown
from topsync.verify.witness import Seen, judge

MODIFIED: Final = "modified"
"""The field of every kind that says when it was changed last."""

_STATE: Final = struct.Struct(f"<{DIGEST_BYTES}sqq")
"""Of a record: digest, `modified` in microseconds since the epoch, revision."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class AuditedKind:
    """A kind of object that is kept."""

    kind: Kind

    @property
    def truth(self) -> str:
        """Where the simulator shows all of a seller's."""
        return "/truth" if self.kind.leads else f"/truth/{self.kind.plural}"

    @property
    def table(self) -> AnyTable:
        """The table, which says how each is read."""
        return TABLES[self.kind]

    def of_platform(self, line: bytes) -> ShownObject:
        """Read it as the platform writes it."""
        written = self.table.model.read(orjson.loads(line)).content
        return self._shown(written, digest_of(written))

    def of_detail(self, value: WireForm) -> ShownObject:
        """Read it as the platform has just shown it in full."""
        return self._shown(value.content, digest_of(value.content))

    def of_wire(self, value: bytes | str) -> ShownObject:
        """Read it as the table holds it."""
        return self._shown(self.table.model.reread(value), digest_of(orjson.loads(value)))

    def _shown(self, written: Mapping[str, Any], digest: bytes) -> ShownObject:
        return shown(self.table.model, self.kind.id_name, MODIFIED, written, digest)

    async def stored_of(self, pool: Pool, ids: Iterable[int]) -> AsyncIterator[ShownObject]:
        """What the table has of these ids, as this release reads it."""
        async for _, value in self.table.values_of(pool, ids):
            yield self.of_wire(value)


async def records_up_to(
    consumer: Consumer, ends: Mapping[TopicPartition, int]
) -> AsyncIterator[list[ConsumerRecord[bytes, bytes]]]:
    """What a consumer has not read of its partitions up to these offsets, some records at a time.

    Raises:
        KafkaError: the cluster does not answer.
    """
    while await _is_behind(consumer, ends):
        for batch in (await consumer.getmany(timeout_ms=200)).values():
            yield batch


async def _is_behind(consumer: Consumer, ends: Mapping[TopicPartition, int]) -> bool:
    for tp, end in ends.items():
        if await consumer.position(tp) < end:
            return True
    return False


class TopicReader:
    """A compacted topic as a subscriber sees it: the newest state of each thing in it."""

    def __init__(self, kafka: KafkaSettings, topics: Registry, kind: AuditedKind) -> None:
        self._kind = kind
        self._consumer = clients.consumer(kafka, fetch_max_wait_ms=lookback.FETCH_WAIT_MILLISECONDS)
        topic = topics.versions[kind.kind]
        self._partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        self._of_seller: defaultdict[int, set[int]] = defaultdict(set)
        self._states: dict[int, bytes] = {}
        """By id, packed: there may be millions, and as objects they would take twice the memory."""
        self.ends: dict[ReadPosition, int] = {}
        """The offset up to which each partition has been read."""
        self.backwards = 0

    async def start(self) -> None:
        """Read everything in the topic."""
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        await self._consumer.seek_to_beginning(*self._partitions)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Read everything that has come since."""
        ends = await self._consumer.end_offsets(self._partitions)
        async for batch in records_up_to(self._consumer, ends):
            for record in batch:
                self._take(record)
        self.ends = {ReadPosition(self._kind.kind.plural, tp.partition): end for tp, end in ends.items()}

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    def __contains__(self, id_: int) -> bool:
        return id_ in self._states

    def of_seller(self, seller_id: int) -> set[int]:
        """The ids that the topic has of a seller."""
        return self._of_seller[seller_id]

    def state(self, id_: int) -> PublishedState | None:
        """What the topic has of an id."""
        if (packed := self._states.get(id_)) is None:
            return None
        digest, modified, _ = _STATE.unpack(packed)
        return PublishedState(_EPOCH + modified * _MICROSECOND, digest)

    def has_digest(self, id_: int, digest: bytes) -> bool:
        """Whether the topic has exactly this of an id."""
        packed = self._states.get(id_)
        return packed is not None and packed.startswith(digest)

    def _take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        id_ = int(record.key)
        if record.value is None:
            for ids in self._of_seller.values():
                ids.discard(id_)
            self._states.pop(id_, None)
            return
        headers, value = dict(record.headers), orjson.loads(record.value)
        now = Seen(parse_instant(value[MODIFIED]), int(headers["ce_revision"]))
        if (before := self._states.get(id_)) is not None:
            _, modified, revision = _STATE.unpack(before)
            self.backwards += judge(Seen(_EPOCH + modified * _MICROSECOND, revision), now) is not None
        since = (now.modified - _EPOCH) // _MICROSECOND
        self._states[id_] = _STATE.pack(digest_of(value), since, now.revision)
        self._of_seller[int(headers["ce_sellerid"])].add(id_)
