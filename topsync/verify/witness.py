"""The witness: reads `orders` and `refunds` from their start, as any subscriber would, and checks I2.

It knows nothing of the writers. For each order and each refund it remembers the newest version it has seen; a
record with an older version is a finding. It keeps what it saw in PostgreSQL, where `topsync audit` looks.
From time to time it compares what it has seen with the tables (`topsync/verify/shortage.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from schemas import cloud_events
from schemas.types import parse_instant
from topsync.base import metrics, starts, telemetry
from topsync.base.outages import Outage
from topsync.base.settings import KafkaSettings
from topsync.model.kind import Kind
from topsync.store import witness
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.witness import ReadPosition, WitnessFinding, WitnessProgress
from topsync.stream import clients, layout, topic_look, topics
from topsync.stream.clients import Consumer
from topsync.stream.topics import Registry
from topsync.verify.shortage import Shortages

log = telemetry.get_logger(__name__)

SAVE_INTERVAL_SECONDS = 0.5
MAX_FRESHNESS_SAMPLES = 1_000
"""How many of the newest are kept: freshness as it is now, not since the start."""

TOPICS_EVERY_SECONDS = 5.0
"""How late we may notice that a topic was made anew. Then it no longer holds what was seen."""
LOOK_TIMEOUT_SECONDS = 10.0
"""Bounds a look, because nothing is read meanwhile."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest version of an order or a refund so far."""

    modified: datetime
    revision: int
    is_ahead: bool = False
    """Its `modified` is later than its publication. No writer accepts such a version, so an older may
    follow."""


def judge(before: Seen | None, now: Seen) -> str | None:
    """Why a version may not follow the version before; None when it may. The same version twice is fine."""
    if before is None:
        return None
    if now.revision < before.revision:
        return f"revision {now.revision} after {before.revision}"
    if now.modified < before.modified and not before.is_ahead:
        return f"modified {now.modified.isoformat()} after {before.modified.isoformat()}"
    return None


@dataclass(slots=True)
class Witness:
    """A reader of all partitions of the compacted topics."""

    kafka: KafkaSettings
    topics: Registry
    pool: Pool
    records: int = 0
    backwards: int = 0
    _seen: dict[Kind, dict[int, Seen]] = field(default_factory=lambda: {kind: {} for kind in Kind})
    _topic_ids: dict[str, str | None] = field(default_factory=dict)
    """Kafka's ids, by the topics' names in the registry."""
    _progress: dict[ReadPosition, WitnessProgress] = field(default_factory=dict)
    _unsaved: deque[WitnessFinding] = field(default_factory=deque)
    _freshness: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_FRESHNESS_SAMPLES))
    _outage: Outage = field(default_factory=lambda: Outage("cannot keep what was seen; trying again"))

    @property
    def orders(self) -> int:
        """How many different orders the topic holds."""
        return len(self._seen[Kind.ORDER])

    def freshness(self) -> tuple[float, float] | None:
        """p50 and p99 in seconds, from the platform's message to the published order."""
        if not self._freshness:
            return None
        ordered = sorted(self._freshness)
        return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]

    async def run(self, stop: Callable[[], bool]) -> None:
        """Read until `stop()` is true.

        Raises:
            UnreachableError: the cluster was away for too long at the start.
            LayoutError: a topic has another number of partitions than it should.
        """
        watched = self.topics.versions
        places = {
            TopicPartition(topic.name, number): ReadPosition(kind.plural, number)
            for kind, topic in watched.items()
            for number in range(topic.partitions)
        }
        kinds = {topic.name: kind for kind, topic in watched.items()}
        shortages = Shortages(self.pool, self._seen)
        async with (
            starts.opened(
                topics.SERVER,
                lambda: self._reader(places, shortages),
                outages=topics.OUTAGES,
                may_come=clients.may_come,
            ) as consumer,
            _beside(shortages.run(consumer, places)) as comparing,
        ):
            topics_at = save_at = 0.0
            while not stop():
                if comparing.done():
                    comparing.result()
                if time.monotonic() >= topics_at:
                    await self._look_at_topics(consumer, places, shortages)
                    topics_at = time.monotonic() + TOPICS_EVERY_SECONDS
                batches = await consumer.getmany(timeout_ms=200, max_records=2000)
                for tp, batch in batches.items():
                    self._take(kinds[tp.topic], places[tp], batch)
                if time.monotonic() >= save_at:
                    for topic in watched.values():
                        layout.require_known(topic, consumer.partitions_for_topic(topic.name))
                    await self._note_positions(consumer, places)
                    save_at = await self._save() + time.monotonic()

    @asynccontextmanager
    async def _reader(
        self, places: Mapping[TopicPartition, ReadPosition], shortages: Shortages
    ) -> AsyncIterator[Consumer]:
        """A consumer at the beginning of each partition."""
        async with clients.reader(self.kafka) as consumer:
            consumer.assign(list(places))
            await self._begin_anew(consumer, places, shortages)
            yield consumer

    async def _look_at_topics(
        self, consumer: Consumer, places: Mapping[TopicPartition, ReadPosition], shortages: Shortages
    ) -> None:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_SECONDS):
                await self._begin_anew(consumer, places, shortages)
        except (KafkaError, TimeoutError) as error:
            log.warning("cannot look at the topics; trying again", error=repr(error))

    async def _begin_anew(
        self, consumer: Consumer, places: Mapping[TopicPartition, ReadPosition], shortages: Shortages
    ) -> None:
        """Read from its start each topic that was made anew; at first, all."""
        names = {kind: topic.name for kind, topic in self.topics.versions.items()}
        found = await topic_look.topic_ids(self.kafka, list(names.values()))
        for kind, name in names.items():
            topic = kind.plural
            if topic in self._topic_ids and found.get(name) in (None, self._topic_ids[topic]):
                continue
            self._seen[kind].clear()
            shortages.forget(kind)
            tps = [tp for tp, place in places.items() if place.topic == topic]
            await consumer.seek_to_beginning(*tps)
            for tp, offset in (await consumer.beginning_offsets(tps)).items():
                self._progress[places[tp]] = WitnessProgress(offset, offset)
            self._topic_ids[topic] = found.get(name)

    def _take(self, kind: Kind, place: ReadPosition, batch: list[ConsumerRecord[bytes, bytes]]) -> None:
        seen = self._seen[kind]
        for record in batch:
            id_ = int(record.key)
            if record.value is None:
                seen.pop(id_, None)
                continue
            attributes = cloud_events.attributes(record.headers)
            modified = parse_instant(attributes["time"])
            published_at = parse_instant(attributes["publishedat"])
            now = Seen(modified, int(attributes["revision"]), is_ahead=modified > published_at)
            if finding := judge(seen.get(id_), now):
                self.backwards += 1
                metrics.WITNESS_BACKWARDS.labels(place.topic).inc()
                self._unsaved.append(WitnessFinding(place, record.offset, id_, finding))
                log.error("gone backwards", topic=place.topic, id=id_, finding=finding, offset=record.offset)
            else:
                seen[id_] = now
            if hinted := attributes.get("hintedat"):
                self._freshness.append(max(0.0, (published_at - parse_instant(hinted)).total_seconds()))
        self.records += len(batch)

    async def _note_positions(
        self, consumer: Consumer, places: Mapping[TopicPartition, ReadPosition]
    ) -> None:
        # The position also passes transaction markers: offsets that hold no record.
        for tp, place in places.items():
            first = self._progress[place].first_offset
            self._progress[place] = WitnessProgress(first, await consumer.position(tp))

    async def _save(self) -> float:
        """Keep what was seen; returns the seconds to wait until the next time."""
        try:
            while self._unsaved:
                await witness.add_finding(self.pool, self._unsaved[0])
                self._unsaved.popleft()
            await witness.save_progress(self.pool, self._progress, self._topic_ids)
        except OUTAGE_ERRORS as error:
            return self._outage.failed(error)
        self._outage.over()
        return SAVE_INTERVAL_SECONDS


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` while the context is open; it is cancelled at the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def wait_until_read(
    pool: Pool, ends: Mapping[ReadPosition, int], *, within_seconds: float
) -> dict[ReadPosition, WitnessProgress] | None:
    """Wait until a running witness has read up to these offsets; returns its progress, or None in vain."""
    deadline = time.monotonic() + within_seconds
    while True:
        progress = await witness.progress(pool)
        if all(place in progress and progress[place].next_offset >= end for place, end in ends.items()):
            return progress
        if time.monotonic() >= deadline:
            return None
        await asyncio.sleep(0.2)
