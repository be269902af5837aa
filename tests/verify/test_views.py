"""A compacted topic as the audit reads it."""

from __future__ import annotations

from tests.store.databases import SELLER
from tests.stream.clusters import create_topics, settings_for
from tests.verify.test_witness import published, tombstone
from topsync.model.kind import Kind
from topsync.stream import producer as producers
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
            assert set(reader.states) == reader.of_seller(SELLER) == {1, 2}
            await producer.publish([tombstone(first)])
            await reader.catch_up()
            assert set(reader.states) == reader.of_seller(SELLER) == {2}
            assert reader.backwards == 0
        finally:
            await reader.stop()
