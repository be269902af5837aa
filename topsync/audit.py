"""The audit: order by order, platform's truth = table = compacted topic (I3), and the ledger has no hole.

The truth comes from the simulator's administrative port; the real platform has no such thing.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import httpx
import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas import cloud_events
from schemas.trade import Trade
from topsync.coverage import spans
from topsync.errors import OperatorError
from topsync.settings import KafkaSettings
from topsync.store import coverage, gaps, orders, sellers, witness
from topsync.store.database import Pool
from topsync.store.sellers import Seller
from topsync.stream.topics import Registry
from topsync.witness import Seen, judge, wait_until_read

WITNESS_WAIT_SECONDS = 15.0
ROUND_PAUSE_SECONDS = 1.0
MAX_EXAMPLES = 5


class AuditError(OperatorError):
    """The audit cannot be made. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class State:
    """One order as one of the three shows it."""

    modified: datetime
    content_hash: bytes


@dataclass(slots=True)
class SellerResult:
    """What the audit found of one seller."""

    seller: Seller
    orders: int = 0
    missing: int = 0
    stale: int = 0
    holes: int = 0
    complete_until: datetime | None = None
    examples: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        """Keep a few examples for people."""
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(what)


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
        """Spans of time that the ledger cannot vouch for."""
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
        """Compare, again and again until it comes out clean or the time to settle is up.

        Raises:
            AuditError: the simulator's administrative port does not answer.
        """
        deadline = time.monotonic() + settle_seconds
        while True:
            result = await self._once()
            if result.clean or time.monotonic() >= deadline:
                return result
            await asyncio.sleep(ROUND_PAUSE_SECONDS)

    async def _once(self) -> Result:
        topic, ends, backwards_here = await self._read_topic()
        proven = await coverage.proven(self.pool)
        open_gaps = await gaps.open_gaps(self.pool)
        results = []
        for seller in await sellers.all_of(self.pool):
            result = SellerResult(seller)
            await self._compare(result, topic.pop(seller.seller_id, {}))
            known = proven.get(seller.seller_id, [])
            result.complete_until = spans.complete_until(known)
            result.holes = (
                len(spans.holes(known))
                + sum(gap.seller_id == seller.seller_id for gap in open_gaps)
                + (not known)
            )
            results.append(result)
        progress = await wait_until_read(self.pool, ends, within_seconds=WITNESS_WAIT_SECONDS)
        if progress is None:
            return Result(results, backwards_here, witnessed=False)
        from_start = all(partition.first_offset == 0 for partition in progress.values())
        return Result(results, len(await witness.findings(self.pool)), witnessed=from_start)

    async def _compare(self, result: SellerResult, topic: Mapping[int, State]) -> None:
        table = {
            tid: State(modified, content_hash)
            async for tid, modified, content_hash in orders.states(self.pool, result.seller.seller_id)
        }
        unseen = table.keys() | topic.keys()
        async for tid, truth in self._truth(result.seller.seller_id):
            result.orders += 1
            unseen.discard(tid)
            if tid not in table or tid not in topic:
                result.missing += 1
                result.note(f"{tid} missing in the {'table' if tid not in table else 'topic'}")
            elif not table[tid] == topic[tid] == truth:
                result.stale += 1
                where = "table" if table[tid] != truth else "topic"
                result.note(f"{tid} stale in the {where}")
        result.stale += len(unseen)
        for tid in sorted(unseen)[:MAX_EXAMPLES]:
            result.note(f"{tid} unknown to the platform")

    async def _truth(self, seller_id: int) -> AsyncIterator[tuple[int, State]]:
        try:
            async with (
                httpx.AsyncClient(base_url=self.admin_url, timeout=60, trust_env=False) as client,
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

    async def _read_topic(self) -> tuple[dict[int, dict[int, State]], dict[int, int], int]:
        """The topic's newest state per seller and order, the offsets read to, and steps back on the way."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.kafka_bootstrap_servers,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        found: dict[int, dict[int, State]] = defaultdict(dict)
        seen: dict[int, Seen] = {}
        backwards = 0
        try:
            await consumer.start()
            name = self.topics.orders.name
            partitions = [TopicPartition(name, number) for number in range(self.topics.orders.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            while await _behind(consumer, ends):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    for record in batch:
                        backwards += _take(record, found, seen)
        finally:
            await consumer.stop()
        return found, {tp.partition: end for tp, end in ends.items()}, backwards


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines split on bytes: splitting text would also split inside buyers' messages (U+2028 and others)."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


async def _behind(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    for tp, end in ends.items():
        if await consumer.position(tp) < end:
            return True
    return False


def _take(
    record: ConsumerRecord[bytes, bytes], found: dict[int, dict[int, State]], seen: dict[int, Seen]
) -> bool:
    """Keep a record's state as the newest, as a subscriber would; true where it is a step back."""
    tid = int(record.key)
    attributes = cloud_events.attributes(record.headers)
    if record.value is None:
        seen.pop(tid, None)
        for states in found.values():
            states.pop(tid, None)
        return False
    trade = Trade.from_wire(record.value)
    found[int(attributes["sellerid"])][tid] = State(trade.modified, trade.content_hash())
    before, now = seen.get(tid), Seen(trade.modified, int(attributes["revision"]))
    seen[tid] = now
    return judge(before, now) is not None
