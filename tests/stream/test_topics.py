"""The topics as the cluster must have them: created once, required with an explanation."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.stream.clusters import create_topics, settings_for
from topsync.settings import KafkaSettings
from topsync.stream import topic_admin, topic_plan, topics
from topsync.stream.topic_plan import Action, Alter, ByHand, Create, Found
from topsync.stream.topics import Topic, TopicsError

DAY_MS = 24 * 3600 * 1000


async def config_of(kafka: KafkaSettings, name: str) -> dict[str, str]:
    async with topics.admin_client(kafka) as admin:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    ((_, _, _, _, entries),) = answer.resources
    return {entry[0]: entry[1] for entry in entries}


async def test_missing_topics_are_named_with_what_to_run(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    with pytest.raises(
        TopicsError, match=rf"lacks {topic_prefix}\.trade\.changes\.v1, .*`topsync topics apply`"
    ):
        await topics.require(kafka)


async def test_creating_is_idempotent_also_for_processes_that_do_it_at_once(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    await asyncio.gather(*(topic_admin.apply(kafka) for _ in range(3)))
    registry = await create_topics(kafka)
    assert await topic_admin.apply(kafka) == await topic_admin.plan(kafka) == []
    assert registry == topics.registry(kafka)
    assert {topic.partitions for topic in (registry.changes, registry.snapshots, registry.orders)} == {4}


async def test_the_topic_of_orders_is_compacted_and_keeps_tombstones_for_a_day(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    registry = await create_topics(kafka)
    configs = {topic.name: await config_of(kafka, topic.name) for topic in registry.all()}
    assert configs[registry.orders.name]["cleanup.policy"] == "compact"
    assert configs[registry.orders.name]["delete.retention.ms"] == str(DAY_MS)
    assert configs[registry.changes.name]["cleanup.policy"] == "delete"
    assert int(configs[registry.changes.name]["retention.ms"]) >= DAY_MS
    assert configs[registry.changes.name]["message.timestamp.type"] == "LogAppendTime", "freshness tells it"


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


# Plan and apply.


def found(topic: Topic) -> Found:
    """The topic as it should be, with what every topic has besides."""
    return Found(topic.partitions, topic.replicas, {"segment.bytes": "1", **topic.config})


WANTED = topics.registry(settings_for("nowhere:1", "taobao"))
AS_IT_SHOULD_BE = {topic.name: found(topic) for topic in WANTED.all()}


def planned(**changes: Found | None) -> list[Action]:
    """The plan where some topics, by their name in the registry, are found otherwise or not at all."""
    there = dict(AS_IT_SHOULD_BE)
    for name, other in changes.items():
        topic = getattr(WANTED, name).name
        del there[topic]
        if other is not None:
            there[topic] = other
    return topic_plan.plan(WANTED.all(), there)


def test_where_all_is_as_it_should_be_nothing_is_planned() -> None:
    assert planned() == []


def test_what_is_missing_is_created_and_what_differs_is_set() -> None:
    other = replace(found(WANTED.orders), config={**WANTED.orders.config, "cleanup.policy": "delete"})
    assert planned(changes=None, orders=other) == [
        Create(WANTED.changes),
        Alter(WANTED.orders, {"cleanup.policy": ("delete", "compact")}),
    ]
    assert "cleanup.policy delete -> compact" in str(planned(orders=other)[0])


def test_partitions_and_replicas_are_left_to_people_with_the_reason() -> None:
    (partitions,) = planned(orders=replace(found(WANTED.orders), partitions=5))
    assert isinstance(partitions, ByHand)
    assert "5 partitions, not 4" in str(partitions)
    assert "their writer" in str(partitions)
    (replicas,) = planned(changes=replace(found(WANTED.changes), replicas=2))
    assert isinstance(replicas, ByHand)
    assert "2 replicas, not 1" in str(replicas)


async def test_apply_sets_what_an_installation_wants_and_keeps_what_an_operator_has_set(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    before = settings_for(kafka_bootstrap_servers, topic_prefix)
    name = (await create_topics(before)).changes.name
    async with topics.admin_client(before) as admin:
        own = {**topics.registry(before).changes.config, "segment.ms": "3600000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, own)])
    wanted = before.model_copy(update={"changes_retention_hours": 48})
    (first, second) = plan = await topic_admin.plan(wanted)
    assert {type(first), type(second)} == {Alter}
    assert (await config_of(wanted, name))["retention.ms"] == str(7 * DAY_MS), "a plan changes nothing"
    assert await topic_admin.apply(wanted) == plan
    after = await config_of(wanted, name)
    assert (after["retention.ms"], after["segment.ms"]) == (str(2 * DAY_MS), "3600000")
    assert after["max.message.bytes"] == own["max.message.bytes"]
    assert await topic_admin.plan(wanted) == []


async def test_apply_never_changes_the_number_of_partitions(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    await create_topics(settings_for(kafka_bootstrap_servers, topic_prefix, partitions=4))
    wanted = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=5)
    actions = await topic_admin.apply(wanted)
    assert [type(action) for action in actions] == [ByHand] * 4
    assert await topic_admin.plan(wanted) == actions
