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
from topsync.model.compacted_topic import Compacted, Finder, Reason, TopicLoss
from topsync.store import compacted_topics
from topsync.store.database import Pool
from topsync.stream import topic_look
from topsync.stream.topics import Registry, Topic

log = telemetry.get_logger(__name__)

LOOK_TIMEOUT_SECONDS: Final = 30.0
"""Bounds a look: if a topic is deleted meanwhile, the client would wait for it for ever."""

MAX_LOOKS: Final = 5
"""Of two looks at the same time only one counts. Nobody loses that often in a row."""


def topic_of(topics: Registry, which: Compacted) -> Topic:
    """A compacted topic in an installation's registry."""
    return topics.orders if which is Compacted.ORDERS else topics.refunds


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
        for topic in Compacted:
            metrics.TOPIC_LOST.labels(topic.value).set(any(loss.topic is topic for loss in found))
        return found

    async def _look_once(self) -> bool:
        """Look; False when another process has looked meanwhile: then this look may be the older."""
        before = await compacted_topics.last_looks(self.pool)
        # Counted before the look: so each of these was in its topic by then.
        published = {
            topic: await compacted_topics.count_published(self.pool, topic)
            for topic in Compacted
            if topic not in before
        }
        names = {topic: topic_of(self.topics, topic) for topic in Compacted}
        async with asyncio.timeout(LOOK_TIMEOUT_SECONDS):
            looks = await topic_look.look(self.kafka, list(names.values()))
        counted = True
        for topic, wanted in names.items():
            now, last = looks.get(wanted.name), before.get(topic)
            if now is None:
                await compacted_topics.add_loss(self.pool, topic, Finder.ENRICHER, Reason.GONE, None)
                continue
            if last is None:
                loss = compacted_topic.judge_first(now, published[topic])
            else:
                loss = compacted_topic.judge(last.look, now)
            kept = await compacted_topics.note_look(self.pool, topic, now, last, loss)
            if kept and loss is not None:
                log.error("a compacted topic has lost records", topic=wanted.name, reason=loss.value)
            counted = counted and kept
        return counted
