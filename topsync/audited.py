"""What an audit compares: orders and refunds, each with its truth, its table and its topic as it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from aiokafka import ConsumerRecord, TopicPartition

from schemas import cloud_events
from schemas.refund import Refund
from schemas.trade import Trade
from topsync.settings import KafkaSettings
from topsync.store import orders, refunds
from topsync.store.database import Pool
from topsync.store.versions import State
from topsync.store.witness import Place
from topsync.stream import clients
from topsync.stream.topics import Registry, Topic
from topsync.witness import Seen, judge


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that is kept."""

    name: str
    """As in the topic registry."""
    one: str
    """What people call one of them."""
    topic: Callable[[Registry], Topic]
    truth: str
    """Where the simulator shows all of a seller's."""
    of_platform: Callable[[bytes], tuple[int, State]]
    """Id and state of one, as the platform writes it."""
    of_topic: Callable[[bytes], tuple[int, State]]
    """The same, as the topic has it."""
    stored: Callable[[Pool, int], AsyncIterator[tuple[int, State]]]
    """All that the table has of a seller."""
    stored_of: Callable[[Pool, Iterable[int]], Awaitable[dict[int, State]]]


def _order(trade: Trade) -> tuple[int, State]:
    return trade.tid, State(trade.modified, trade.content_hash())


def _refund(refund: Refund) -> tuple[int, State]:
    return refund.refund_id, State(refund.modified, refund.content_hash())


ORDERS: Final = Kind(
    "orders",
    "order",
    lambda topics: topics.orders,
    "/truth",
    lambda line: _order(Trade.from_platform(orjson.loads(line))),
    lambda value: _order(Trade.from_wire(value)),
    orders.TABLE.states,
    orders.TABLE.states_of,
)
REFUNDS: Final = Kind(
    "refunds",
    "refund",
    lambda topics: topics.refunds,
    "/truth/refunds",
    lambda line: _refund(Refund.from_platform(orjson.loads(line))),
    lambda value: _refund(Refund.from_wire(value)),
    refunds.TABLE.states,
    refunds.TABLE.states_of,
)


class TopicReader:
    """A compacted topic as a subscriber sees it: the newest state of each order or refund."""

    def __init__(self, kafka: KafkaSettings, topics: Registry, kind: Kind) -> None:
        self._kind = kind
        self._consumer = clients.consumer(kafka)
        topic = kind.topic(topics)
        self._partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        self._seller_of: dict[int, int] = {}
        self._seen: dict[int, Seen] = {}
        self.states: dict[int, State] = {}
        self.ends: dict[Place, int] = {}
        """Per partition, the offset that has been read up to."""
        self.backwards = 0

    async def start(self) -> None:
        """Read all there is."""
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        await self._consumer.seek_to_beginning(*self._partitions)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Read all that has come since."""
        ends = await self._consumer.end_offsets(self._partitions)
        while await self._is_behind(ends):
            for batch in (await self._consumer.getmany(timeout_ms=200)).values():
                for record in batch:
                    self._take(record)
        self.ends = {Place(self._kind.name, tp.partition): end for tp, end in ends.items()}

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    def of_seller(self, seller_id: int) -> set[int]:
        """What the topic has of a seller."""
        return {id_ for id_, owner in self._seller_of.items() if owner == seller_id}

    async def _is_behind(self, ends: Mapping[TopicPartition, int]) -> bool:
        for tp, end in ends.items():
            if await self._consumer.position(tp) < end:
                return True
        return False

    def _take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        id_ = int(record.key)
        if record.value is None:
            for known in (self.states, self._seen, self._seller_of):
                known.pop(id_, None)
            return
        attributes = cloud_events.attributes(record.headers)
        _, state = self._kind.of_topic(record.value)
        now = Seen(state.modified, int(attributes["revision"]))
        self.backwards += judge(self._seen.get(id_), now) is not None
        self._seen[id_] = now
        self.states[id_] = state
        self._seller_of[id_] = int(attributes["sellerid"])
