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
from topsync.model.compacted_topic import Finder, Reason
from topsync.model.kind import Kind
from topsync.store import compacted_topics
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.version_tables import TABLES
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
    """What the reader remembers about a thing in a topic."""

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
    """Compares the compacted topics with their tables from time to time."""

    pool: Pool
    seen: Mapping[Kind, Mapping[int, HasRevision]]
    """What the reader has read so far, by kind and id."""
    _due_at: dict[Kind, float] = field(default_factory=dict)
    _doubts: dict[Kind, _Doubt] = field(default_factory=dict)
    _read_once: set[Kind] = field(default_factory=set)

    async def run(self, consumer: Consumer, places: Mapping[TopicPartition, ReadPosition]) -> None:
        """Compare until cancelled, while `consumer` reads all of these partitions."""
        while True:
            try:
                for kind in Kind:
                    tps = [tp for tp in places if places[tp].topic == kind.plural]
                    await self._look(kind, consumer, tps)
            except (*OUTAGE_ERRORS, KafkaError) as error:
                log.warning("cannot compare topic and table; trying again", error=repr(error))
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self, kind: Kind, consumer: Consumer, tps: Sequence[TopicPartition]) -> None:
        """Take the next step in comparing a topic, if it is due."""
        if (doubt := self._doubts.get(kind)) is not None:
            await self._settle(kind, doubt, {tp: await consumer.position(tp) for tp in tps})
        elif time.monotonic() >= self._due_at.get(kind, 0.0):
            revisions = await self._unseen(kind) if kind in self._read_once else None
            self._doubts[kind] = _Doubt(revisions, await consumer.end_offsets(tps))

    def forget(self, kind: Kind) -> None:
        """Begin anew with a kind's topic, because it was made anew."""
        self._doubts.pop(kind, None)
        self._due_at.pop(kind, None)
        self._read_once.discard(kind)

    async def _unseen(self, kind: Kind, among: Mapping[int, int] | None = None) -> dict[int, int]:
        """Ids and revisions that are published according to the table, and that the reader has not seen."""
        seen = self.seen[kind]
        return {
            key: revision
            async for key, revision in TABLES[kind].published(self.pool, among)
            if (before := seen.get(key)) is None or before.revision < (among or {}).get(key, revision)
        }

    async def _settle(self, kind: Kind, doubt: _Doubt, positions: Mapping[TopicPartition, int]) -> None:
        """Report what is lacking, once the reader has read so far that it must have seen it."""
        if any(positions[tp] < end for tp, end in doubt.ends.items()):
            return
        self._doubts.pop(kind, None)
        if doubt.revisions is None:
            self._read_once.add(kind)
            return
        lacking = len(await self._unseen(kind, doubt.revisions)) if doubt.revisions else 0
        if lacking:
            log.error("the topic lacks what the table has", topic=kind.plural, lacking=lacking)
            await compacted_topics.add_loss(self.pool, kind, Finder.WITNESS, Reason.LACKING, lacking)
        else:
            await compacted_topics.clear_loss(self.pool, kind, Finder.WITNESS)
        self._due_at[kind] = time.monotonic() + (COMPARE_AGAIN_SECONDS if lacking else COMPARE_EVERY_SECONDS)
