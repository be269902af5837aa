"""The audit: order by order, platform's truth = table = compacted topic (I3), and the ledger has no hole.

At rest all three are equal at the first look. While orders go on changing, a change takes its time through
the system; so the first look notes, for each order that differs, the state the platform had shown, and
later looks ask whether table and topic have reached it since. What has not by the end is counted.

The truth comes from the simulator's administrative port; the real platform has no such thing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import httpx
import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas import cloud_events
from schemas.trade import Trade
from topsync import standing
from topsync.errors import OperatorError
from topsync.settings import KafkaSettings
from topsync.store import orders, sellers, witness
from topsync.store.database import Pool
from topsync.store.orders import State
from topsync.store.sellers import Seller
from topsync.store.sellers import State as SellerState
from topsync.stream.topics import Registry
from topsync.witness import Seen, judge, wait_until_read

WITNESS_WAIT_SECONDS = 15.0
LOOK_AGAIN_SECONDS = 0.5
ADMIN_TIMEOUT_SECONDS = 60.0
MAX_EXAMPLES = 5


class AuditError(OperatorError):
    """The audit cannot be made. The text says why and what to do."""


@dataclass(slots=True)
class SellerResult:
    """What the audit found of one seller."""

    seller: Seller
    orders: int = 0
    expected: dict[int, State] = field(default_factory=dict)
    """Orders that differ, with the state that the platform showed."""
    unknown: set[int] = field(default_factory=set)
    """Orders that table or topic have and should not: the platform does not, or the seller is erased."""
    missing: int = 0
    stale: int = 0
    holes: int = 0
    complete_until: datetime | None = None
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Result:
    """What the audit found."""

    sellers: list[SellerResult]
    backwards: int
    witnessed: bool
    """Whether `backwards` comes from a reader that was there from the start."""

    @property
    def clean(self) -> bool:
        """Whether all four counts are 0."""
        return not (self.missing or self.stale or self.backwards or self.holes)

    @property
    def orders(self) -> int:
        """Orders that the platform has."""
        return sum(result.orders for result in self.sellers)

    @property
    def missing(self) -> int:
        """Orders that the platform has and table or topic lack."""
        return sum(result.missing for result in self.sellers)

    @property
    def stale(self) -> int:
        """Orders that table or topic show in another state, or that the platform does not have."""
        return sum(result.stale for result in self.sellers)

    @property
    def holes(self) -> int:
        """Spans of time that the ledger cannot vouch for: holes, open gaps, sellers without a bootstrap."""
        return sum(result.holes for result in self.sellers)

    def line(self) -> str:
        """The one line for machines."""
        return (
            f"AUDIT orders={self.orders} missing={self.missing} stale={self.stale} "
            f"backwards={self.backwards} holes={self.holes}"
        )


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything an audit needs."""

    pool: Pool
    kafka: KafkaSettings
    topics: Registry
    admin_url: str

    async def run(self, *, settle_seconds: float) -> Result:
        """Compare; what differs has `settle_seconds` to arrive.

        Raises:
            AuditError: the simulator's administrative port does not answer.
        """
        deadline = time.monotonic() + settle_seconds
        topic = _TopicReader(self.kafka, self.topics)
        try:
            await topic.start()
            results = [await self._first_look(seller, topic) for seller in await sellers.all_of(self.pool)]
            while not (settled := await self._look(results, topic)) and time.monotonic() < deadline:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                await topic.catch_up()
            if not settled:
                self._count(results, topic, await self._table(results))
            progress = await wait_until_read(self.pool, topic.ends, within_seconds=WITNESS_WAIT_SECONDS)
        finally:
            await topic.stop()
        if progress is None:
            return Result(results, topic.backwards, witnessed=False)
        from_start = all(partition.first_offset == 0 for partition in progress.values())
        return Result(results, len(await witness.findings(self.pool)), witnessed=from_start)

    async def _first_look(self, seller: Seller, topic: _TopicReader) -> SellerResult:
        """Everything of one seller: the copies first, so that the truth is never older than they are."""
        result = SellerResult(seller)
        table = {tid: state async for tid, state in orders.states(self.pool, seller.seller_id)}
        in_topic = topic.of_seller(seller.seller_id)
        result.unknown = table.keys() | in_topic
        if seller.state is SellerState.ERASED:
            return result
        async for tid, truth in self._truth(seller.seller_id):
            result.orders += 1
            result.unknown.discard(tid)
            if not table.get(tid) == topic.states.get(tid) == truth:
                result.expected[tid] = truth
        return result

    async def _look(self, results: list[SellerResult], topic: _TopicReader) -> bool:
        """Strike out what has arrived, and read the ledger; true when nothing is left to wait for."""
        table = await self._table(results)
        standings = {one.seller.seller_id: one for one in await standing.of_all(self.pool)}
        for result in results:
            for tid, truth in list(result.expected.items()):
                if _reached(table.get(tid), truth) and _reached(topic.states.get(tid), truth):
                    del result.expected[tid]
            result.unknown = {tid for tid in result.unknown if tid in table or tid in topic.states}
            result.complete_until = standings[result.seller.seller_id].complete_until
            result.holes = standings[result.seller.seller_id].doubts
        return not any(result.expected or result.unknown or result.holes for result in results)

    async def _table(self, results: list[SellerResult]) -> dict[int, State]:
        tids = [tid for result in results for tid in (*result.expected, *result.unknown)]
        return await orders.states_of(self.pool, tids)

    @staticmethod
    def _count(results: list[SellerResult], topic: _TopicReader, table: Mapping[int, State]) -> None:
        for result in results:
            lacking = {
                tid: "table" if tid not in table else "topic"
                for tid in result.expected
                if tid not in table or tid not in topic.states
            }
            result.missing = len(lacking)
            result.stale = len(result.expected) - len(lacking) + len(result.unknown)
            examples = [f"{tid} missing in the {where}" for tid, where in lacking.items()]
            examples += [f"{tid} stale" for tid in result.expected if tid not in lacking]
            why = "not erased" if result.seller.state is SellerState.ERASED else "unknown to the platform"
            examples += [f"{tid} {why}" for tid in result.unknown]
            result.examples = examples[:MAX_EXAMPLES]

    async def _truth(self, seller_id: int) -> AsyncIterator[tuple[int, State]]:
        try:
            async with (
                httpx.AsyncClient(
                    base_url=self.admin_url, timeout=ADMIN_TIMEOUT_SECONDS, trust_env=False
                ) as client,
                client.stream("GET", "/truth", params={"user_id": seller_id}) as response,
            ):
                response.raise_for_status()
                async for line in _lines(response.aiter_bytes()):
                    trade = Trade.from_platform(orjson.loads(line))
                    yield trade.tid, State(trade.modified, trade.content_hash())
        except httpx.HTTPError as error:
            raise AuditError(
                f"the simulator's administrative port {self.admin_url} does not answer ({error!r}): "
                "is `topsync simulate` running?"
            ) from None


class _TopicReader:
    """The compacted topic as a subscriber sees it: the newest state of each order."""

    def __init__(self, kafka: KafkaSettings, topics: Registry) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka.kafka_bootstrap_servers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        self._partitions = [
            TopicPartition(topics.orders.name, number) for number in range(topics.orders.partitions)
        ]
        self._seller_of: dict[int, int] = {}
        self._seen: dict[int, Seen] = {}
        self.states: dict[int, State] = {}
        self.ends: dict[int, int] = {}
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
        self.ends = {tp.partition: end for tp, end in ends.items()}

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    def of_seller(self, seller_id: int) -> set[int]:
        """The orders that the topic has of a seller."""
        return {tid for tid, owner in self._seller_of.items() if owner == seller_id}

    async def _is_behind(self, ends: Mapping[TopicPartition, int]) -> bool:
        for tp, end in ends.items():
            if await self._consumer.position(tp) < end:
                return True
        return False

    def _take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        tid = int(record.key)
        if record.value is None:
            for known in (self.states, self._seen, self._seller_of):
                known.pop(tid, None)
            return
        attributes = cloud_events.attributes(record.headers)
        trade = Trade.from_wire(record.value)
        now = Seen(trade.modified, int(attributes["revision"]))
        self.backwards += judge(self._seen.get(tid), now) is not None
        self._seen[tid] = now
        self.states[tid] = State(trade.modified, trade.content_hash())
        self._seller_of[tid] = int(attributes["sellerid"])


def _reached(copy: State | None, truth: State) -> bool:
    """Whether a copy shows what the platform showed, or something newer."""
    return copy is not None and (copy.modified > truth.modified or copy == truth)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines split on bytes: splitting text would also split inside buyers' messages (U+2028 and others)."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest
