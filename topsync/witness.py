"""The witness: reads the topics `orders` and `refunds` from their start, as any subscriber would; watches I2.

It knows nothing of the writers. For each order and each refund it remembers the newest version it has seen; a
record with an older one is a finding. What it saw is kept in PostgreSQL, where `topsync audit` looks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas import cloud_events
from schemas.types import parse_instant
from topsync import telemetry
from topsync.outages import Outage
from topsync.settings import KafkaSettings
from topsync.store import witness
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.witness import Finding, Place, Progress
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

SAVE_INTERVAL_SECONDS = 0.5
MAX_FRESHNESS_SAMPLES = 1_000
"""The newest ones: freshness as it is now, not since the start."""
RATE_WINDOW_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest version of an order or a refund so far."""

    modified: datetime
    revision: int


def judge(before: Seen | None, now: Seen) -> str | None:
    """Why a version may not follow the one before it; none where it may. The same version twice is fine."""
    if before is None:
        return None
    if now.revision < before.revision:
        return f"revision {now.revision} after {before.revision}"
    if now.modified < before.modified:
        return f"modified {now.modified.isoformat()} after {before.modified.isoformat()}"
    return None


@dataclass(slots=True)
class Witness:
    """One reader over all partitions of both topics."""

    kafka: KafkaSettings
    topics: Registry
    pool: Pool
    records: int = 0
    backwards: int = 0
    _seen: dict[str, dict[int, Seen]] = field(default_factory=lambda: {"orders": {}, "refunds": {}})
    _progress: dict[Place, Progress] = field(default_factory=dict)
    _unsaved: deque[Finding] = field(default_factory=deque)
    _freshness: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_FRESHNESS_SAMPLES))
    _arrivals: deque[tuple[float, int]] = field(default_factory=deque)
    _outage: Outage = field(default_factory=lambda: Outage("cannot keep what was seen; trying again"))

    @property
    def orders(self) -> int:
        """How many different orders the topic holds."""
        return len(self._seen["orders"])

    def per_second(self) -> float:
        """Records a second over the last seconds."""
        horizon = time.monotonic() - RATE_WINDOW_SECONDS
        while self._arrivals and self._arrivals[0][0] < horizon:
            self._arrivals.popleft()
        return sum(count for _, count in self._arrivals) / RATE_WINDOW_SECONDS

    def freshness(self) -> tuple[float, float] | None:
        """p50 and p99 in seconds, from the platform's message to the published order."""
        if not self._freshness:
            return None
        ordered = sorted(self._freshness)
        return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]

    async def run(self, stop: Callable[[], bool]) -> None:
        """Read until `stop()` is true."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.kafka_bootstrap_servers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        try:
            await consumer.start()
            places = {
                TopicPartition(topic.name, number): Place(name, number)
                for name, topic in (("orders", self.topics.orders), ("refunds", self.topics.refunds))
                for number in range(topic.partitions)
            }
            consumer.assign(list(places))
            await consumer.seek_to_beginning(*places)
            for tp, offset in (await consumer.beginning_offsets(list(places))).items():
                self._progress[places[tp]] = Progress(offset, offset)
            save_at = 0.0
            while not stop():
                batches = await consumer.getmany(timeout_ms=200, max_records=2000)
                for tp, batch in batches.items():
                    self._take(places[tp], batch)
                if time.monotonic() >= save_at:
                    await self._note_positions(consumer, places)
                    save_at = await self._save() + time.monotonic()
        finally:
            await consumer.stop()

    def _take(self, place: Place, batch: list[ConsumerRecord[bytes, bytes]]) -> None:
        seen = self._seen[place.topic]
        for record in batch:
            id_ = int(record.key)
            if record.value is None:
                seen.pop(id_, None)
                continue
            attributes = cloud_events.attributes(record.headers)
            now = Seen(parse_instant(attributes["time"]), int(attributes["revision"]))
            if finding := judge(seen.get(id_), now):
                self.backwards += 1
                self._unsaved.append(Finding(place, record.offset, id_, finding))
                log.error("gone backwards", topic=place.topic, id=id_, finding=finding, offset=record.offset)
            else:
                seen[id_] = now
            if hinted := attributes.get("hintedat"):
                published = parse_instant(attributes["publishedat"])
                self._freshness.append(max(0.0, (published - parse_instant(hinted)).total_seconds()))
        self.records += len(batch)
        self._arrivals.append((time.monotonic(), len(batch)))

    async def _note_positions(
        self, consumer: AIOKafkaConsumer, places: Mapping[TopicPartition, Place]
    ) -> None:
        # The position also passes transaction markers, which are offsets without a record.
        for tp, place in places.items():
            first = self._progress[place].first_offset
            self._progress[place] = Progress(first, await consumer.position(tp))

    async def _save(self) -> float:
        """Keep what was seen; returns in how many seconds to do so again."""
        try:
            while self._unsaved:
                await witness.add_finding(self.pool, self._unsaved[0])
                self._unsaved.popleft()
            await witness.save_progress(self.pool, self._progress)
        except OUTAGE_ERRORS as error:
            return self._outage.failed(error)
        self._outage.over()
        return SAVE_INTERVAL_SECONDS


async def wait_until_read(
    pool: Pool, ends: Mapping[Place, int], *, within_seconds: float
) -> dict[Place, Progress] | None:
    """Wait until a running witness has read up to these offsets; its progress, or none if it has not."""
    deadline = time.monotonic() + within_seconds
    while True:
        progress = await witness.progress(pool)
        if all(place in progress and progress[place].next_offset >= end for place, end in ends.items()):
            return progress
        if time.monotonic() >= deadline:
            return None
        await asyncio.sleep(0.2)
