"""A compacted topic as the audit reads it."""

from __future__ import annotations

import orjson

from tests.store.databases import SELLER, at
from tests.stream.clusters import create_topics, settings_for
from tests.verify.test_witness import published, tombstone
from topsync.model.kind import Kind
from topsync.stream import producer as producers
from topsync.verify.agreement import PublishedState, digest_of
from topsync.verify.views import AuditedKind, TopicReader


async def test_an_order_with_a_tombstone_is_in_the_topic_no_more(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    """Also where Kafka has not compacted the topic yet, and the order is still in it."""
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    registry = await create_topics(kafka)
    reader = TopicReader(kafka, registry, AuditedKind(Kind.ORDER))
    async with producers.idempotent(kafka) as producer:
        first, second = (published(registry, tid, 1, 5) for tid in (1, 2))
        await producer.publish([first, second])
        await reader.start()
        try:
            assert reader.of_seller(SELLER) == {1, 2}
            assert (1 in reader, 2 in reader) == (True, True)
            await producer.publish([tombstone(first)])
            await reader.catch_up()
            assert reader.of_seller(SELLER) == {2}
            assert (1 in reader, 2 in reader) == (False, True)
            assert reader.backwards == 0
        finally:
            await reader.stop()


async def test_of_each_order_the_newest_record_counts_and_a_step_back_is_counted(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    registry = await create_topics(kafka)
    reader = TopicReader(kafka, registry, AuditedKind(Kind.ORDER))
    async with producers.idempotent(kafka) as producer:
        await producer.publish([published(registry, 1, revision, revision) for revision in (1, 2)])
        await reader.start()
        try:
            newest = digest_of(orjson.loads(published(registry, 1, 2, 2).value or b""))
            assert reader.state(1) == PublishedState(at(2), newest)
            assert (reader.has_digest(1, newest), reader.has_digest(1, newest[::-1])) == (True, False)
            assert (reader.state(2), reader.has_digest(2, newest), reader.backwards) == (None, False, 0)
            await producer.publish([published(registry, 1, 1, 1)])
            await reader.catch_up()
            assert reader.backwards == 1
        finally:
            await reader.stop()
