"""The watch over the compacted topics: whether a topic has lost records that the tables hold.

Nothing is published here. An operator republishes, who knows whether a topic was deleted on purpose.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from topsync.base import metrics, telemetry
from topsync.base.settings import KafkaSettings
from topsync.model import compacted_topic
from topsync.model.compacted_topic import Finder, Reason, TopicLoss
from topsync.model.kind import Kind
from topsync.store import compacted_topics
from topsync.store.database import Pool
from topsync.store.version_tables import TABLES
from topsync.stream import topic_look
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

LOOK_TIMEOUT_SECONDS: Final = 30.0
"""Bounds a look: if a topic is deleted meanwhile, the client would wait for it for ever."""

MAX_LOOKS: Final = 5
"""Of two looks at the same time only one counts. Nobody loses that often in a row."""


@dataclass(frozen=True, slots=True)
class TopicWatch:
    """Looks at the topics, and remembers how they were."""

    pool: Pool
    kafka: KafkaSettings
    topics: Registry

    async def look(self) -> list[TopicLoss]:
        """Look now, note the findings, and return all known losses.

        Raises:
            KafkaError, TimeoutError: the cluster does not answer.
        """
        for _ in range(MAX_LOOKS):
            if await self._look_once():
                break
        found = await compacted_topics.losses(self.pool)
        for kind in Kind:
            metrics.TOPIC_LOST.labels(kind.plural).set(any(loss.kind is kind for loss in found))
        return found

    async def _look_once(self) -> bool:
        """Look; False when another process has looked meanwhile: then this look may be the older."""
        before = await compacted_topics.last_looks(self.pool)
        # Counted before the look: so each of these was in its topic by then.
        published = {
            kind: await table.count_published(self.pool)
            for kind, table in TABLES.items()
            if kind not in before
        }
        wanted = self.topics.versions
        async with asyncio.timeout(LOOK_TIMEOUT_SECONDS):
            looks = await topic_look.look(self.kafka, list(wanted.values()))
        counted = True
        for kind, topic in wanted.items():
            now, last = looks.get(topic.name), before.get(kind)
            if now is None:
                await compacted_topics.add_loss(self.pool, kind, Finder.ENRICHER, Reason.GONE, None)
                continue
            if last is None:
                loss = compacted_topic.judge_first(now, published[kind])
            else:
                loss = compacted_topic.judge(last.look, now)
            kept = await compacted_topics.note_look(self.pool, kind, now, last, loss)
            if kept and loss is not None:
                log.error("a compacted topic has lost records", topic=topic.name, reason=loss.value)
            counted = counted and kept
        return counted
