"""What an audit compares: orders and refunds, and how it reads their truth, table and topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from aiokafka import ConsumerRecord, TopicPartition

from schemas import cloud_events
from schemas.refund import Refund
from schemas.trade import Trade
from topsync.base.settings import KafkaSettings
from topsync.store import orders, refunds
from topsync.store.database import Pool
from topsync.store.versions import StoredState
from topsync.store.witness import ReadPosition
from topsync.stream import clients, lookback
from topsync.stream.topics import Registry, Topic
from topsync.verify.agreement import ShownObject, shown
from topsync.verify.witness import Seen, judge


@dataclass(frozen=True, slots=True)
class AuditedKind:
    """A kind of object that is kept: orders or refunds."""

    name: str
    """As in the topic registry."""
    noun: str
    """The singular, for people."""
    topic: Callable[[Registry], Topic]
    truth: str
    """Where the simulator shows all of a seller's."""
    model: type[Trade] | type[Refund]
    """How each is read."""
    stored: Callable[[Pool, int], AsyncIterator[tuple[int, StoredState]]]
    """A seller's ids and states in the table, with the hashes as they were stored."""
    values_of: Callable[[Pool, Iterable[int]], AsyncIterator[tuple[int, str]]]

    def of_platform(self, line: bytes) -> ShownObject:
        """Read it as the platform writes it."""
        return shown(self.model.from_platform(orjson.loads(line)))

    def of_wire(self, value: bytes | str) -> ShownObject:
        """Read it as topic and table hold it."""
        return shown(self.model.from_wire(value))

    async def stored_of(self, pool: Pool, ids: Iterable[int]) -> AsyncIterator[ShownObject]:
        """What the table has of these ids, as this release reads it."""
        async for _, value in self.values_of(pool, ids):
            yield self.of_wire(value)


ORDERS: Final = AuditedKind(
    "orders",
    "order",
    lambda topics: topics.orders,
    "/truth",
    Trade,
    orders.TABLE.states,
    orders.TABLE.values_of,
)
REFUNDS: Final = AuditedKind(
    "refunds",
    "refund",
    lambda topics: topics.refunds,
    "/truth/refunds",
    Refund,
    refunds.TABLE.states,
    refunds.TABLE.values_of,
)


class TopicReader:
    """A compacted topic as a subscriber sees it: the newest state of each order or refund."""

    def __init__(self, kafka: KafkaSettings, topics: Registry, kind: AuditedKind) -> None:
        self._kind = kind
        self._consumer = clients.consumer(kafka, fetch_max_wait_ms=lookback.FETCH_WAIT_MILLISECONDS)
        topic = kind.topic(topics)
        self._partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        self._seller_of: dict[int, int] = {}
        self._seen: dict[int, Seen] = {}
        self.states: dict[int, StoredState] = {}
        self.unknown: dict[int, bytes] = {}
        """Digests of unknown fields, for those that have any."""
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
        while await self._is_behind(ends):
            for batch in (await self._consumer.getmany(timeout_ms=200)).values():
                for record in batch:
                    self._take(record)
        self.ends = {ReadPosition(self._kind.name, tp.partition): end for tp, end in ends.items()}

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    def of_seller(self, seller_id: int) -> set[int]:
        """The ids that the topic has of a seller."""
        return {id_ for id_, owner in self._seller_of.items() if owner == seller_id}

    async def _is_behind(self, ends: Mapping[TopicPartition, int]) -> bool:
        for tp, end in ends.items():
            if await self._consumer.position(tp) < end:
                return True
        return False

    def _take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        id_ = int(record.key)
        if record.value is None:
            for known in (self.states, self.unknown, self._seen, self._seller_of):
                known.pop(id_, None)
            return
        attributes = cloud_events.attributes(record.headers)
        read = self._kind.of_wire(record.value)
        now = Seen(read.state.modified, int(attributes["revision"]))
        self.backwards += judge(self._seen.get(id_), now) is not None
        self._seen[id_] = now
        self.states[id_] = read.state
        self.unknown.pop(id_, None)
        if read.unknown:
            self.unknown[id_] = read.unknown
        self._seller_of[id_] = int(attributes["sellerid"])
