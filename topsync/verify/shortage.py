"""Finds what a compacted topic lacks in comparison with its table, by reading all of the topic.

The table is ahead of the reader, and an order may be erased while we look for it. So an order counts as
lacking only if the table says that it is published, the reader has read up to the end of the topic after
that, and the table still has it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from topsync.base import telemetry
from topsync.model.compacted_topic import Compacted, Finder, Reason
from topsync.store import compacted_topics
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.witness import ReadPosition
from topsync.stream.clients import Consumer

log = telemetry.get_logger(__name__)

POLL_SECONDS: Final = 1.0
"""How often we check whether a comparison is due, or the reader has read far enough."""

COMPARE_EVERY_SECONDS: Final = 300.0
"""The time between comparisons. Each reads all ids of a table."""

COMPARE_AGAIN_SECONDS: Final = 10.0
"""The same while something is lacking: somebody may be republishing it."""


class HasRevision(Protocol):
    """What the reader remembers about an order or a refund."""

    @property
    def revision(self) -> int:
        """The revision of the newest version."""


@dataclass(slots=True)
class _Doubt:
    """Records in the table that the reader had not seen, and up to where it must read to be sure."""

    revisions: dict[int, int] | None
    """None until the topic has been read once; before that, all of the table would be in doubt."""
    ends: Mapping[TopicPartition, int]


@dataclass(slots=True)
class Shortages:
    """Compares both topics with their tables from time to time."""

    pool: Pool
    seen: Mapping[str, Mapping[int, HasRevision]]
    """What the reader has read so far, by topic and id."""
    _due_at: dict[Compacted, float] = field(default_factory=dict)
    _doubts: dict[Compacted, _Doubt] = field(default_factory=dict)
    _read_once: set[Compacted] = field(default_factory=set)

    async def run(self, consumer: Consumer, places: Mapping[TopicPartition, ReadPosition]) -> None:
        """Compare until cancelled, while `consumer` reads all of these partitions."""
        while True:
            try:
                for topic in Compacted:
                    await self._look(topic, consumer, [tp for tp in places if places[tp].topic == topic])
            except (*OUTAGE_ERRORS, KafkaError) as error:
                log.warning("cannot compare topic and table; trying again", error=repr(error))
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self, topic: Compacted, consumer: Consumer, tps: Sequence[TopicPartition]) -> None:
        """Take the next step in comparing a topic, if it is due."""
        if (doubt := self._doubts.get(topic)) is not None:
            await self._settle(topic, doubt, {tp: await consumer.position(tp) for tp in tps})
        elif time.monotonic() >= self._due_at.get(topic, 0.0):
            revisions = await self._unseen(topic) if topic in self._read_once else None
            self._doubts[topic] = _Doubt(revisions, await consumer.end_offsets(tps))

    def forget(self, topic: str) -> None:
        """Begin anew with a topic, because it was made anew."""
        self._doubts.pop(Compacted(topic), None)
        self._due_at.pop(Compacted(topic), None)
        self._read_once.discard(Compacted(topic))

    async def _unseen(self, topic: Compacted, among: Mapping[int, int] | None = None) -> dict[int, int]:
        """Ids and revisions that are published according to the table, and that the reader has not seen."""
        seen = self.seen[topic]
        return {
            key: revision
            async for key, revision in compacted_topics.published(self.pool, topic, among)
            if (before := seen.get(key)) is None or before.revision < (among or {}).get(key, revision)
        }

    async def _settle(self, topic: Compacted, doubt: _Doubt, positions: Mapping[TopicPartition, int]) -> None:
        """Report what is lacking, once the reader has read so far that it must have seen it."""
        if any(positions[tp] < end for tp, end in doubt.ends.items()):
            return
        self._doubts.pop(topic, None)
        if doubt.revisions is None:
            self._read_once.add(topic)
            return
        lacking = len(await self._unseen(topic, doubt.revisions)) if doubt.revisions else 0
        if lacking:
            log.error("the topic lacks what the table has", topic=topic.value, lacking=lacking)
            await compacted_topics.add_loss(self.pool, topic, Finder.WITNESS, Reason.LACKING, lacking)
        else:
            await compacted_topics.clear_loss(self.pool, topic, Finder.WITNESS)
        self._due_at[topic] = time.monotonic() + (COMPARE_AGAIN_SECONDS if lacking else COMPARE_EVERY_SECONDS)
