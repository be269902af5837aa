"""The topics as the cluster must have them: created once, required with an explanation."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.stream.clusters import create_topics, settings_for
from topsync.stream import topics
from topsync.stream.topics import TopicsError


async def test_missing_topics_are_named_with_what_to_run(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    with pytest.raises(TopicsError, match=rf"lacks {topic_prefix}\.trade\.changes\.v1, .*`topsync topics`"):
        await topics.require(kafka)


async def test_creating_is_idempotent_also_for_processes_that_do_it_at_once(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    await asyncio.gather(*(topics.create_missing(kafka) for _ in range(3)))
    registry = await create_topics(kafka)
    assert await topics.create_missing(kafka) == []
    assert registry == topics.registry(kafka)
    assert {topic.partitions for topic in (registry.changes, registry.snapshots, registry.orders)} == {4}


async def test_the_topic_of_orders_is_compacted_and_keeps_tombstones_for_a_day(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    registry = await create_topics(kafka)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap_servers)
    await admin.start()
    try:
        found = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in registry.all()]
        )
    finally:
        await admin.close()
    configs = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in found
        for resource in answer.resources
    }
    assert configs[registry.orders.name]["cleanup.policy"] == "compact"
    assert configs[registry.orders.name]["delete.retention.ms"] == str(topics.DAY_MS)
    assert configs[registry.changes.name]["cleanup.policy"] == "delete"
    assert int(configs[registry.changes.name]["retention.ms"]) >= topics.DAY_MS


@pytest.mark.parametrize("wanted", [3, 5])
async def test_another_number_of_partitions_is_refused_with_the_numbers_and_the_danger(
    kafka_bootstrap_servers: str, topic_prefix: str, wanted: int
) -> None:
    """A process that counts partitions otherwise would write orders that are another's."""
    await create_topics(settings_for(kafka_bootstrap_servers, topic_prefix, partitions=4))
    with pytest.raises(TopicsError) as refused:
        await topics.require(settings_for(kafka_bootstrap_servers, topic_prefix, partitions=wanted))
    told = str(refused.value)
    assert f"must all be {wanted} (TOPSYNC_PARTITIONS)" in told
    assert f"'{topic_prefix}.trade.orders.v1': 4" in told
    assert "two writers" in told
