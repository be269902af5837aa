"""The topics as the cluster must have them: created once; a difference is refused with an explanation."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.metadata import MetadataRequest

from tests.stream.clusters import BOUND_SECONDS, create_topics, record, settings_for
from tests.support.eventually import eventually
from topsync.base.settings import KafkaSettings
from topsync.stream import clients, layout, topic_admin, topic_plan, topics
from topsync.stream import producer as producers
from topsync.stream.layout import LayoutError
from topsync.stream.topic_plan import Action, Alter, ByHand, Create, Widen
from topsync.stream.topics import FoundTopic, Topic, TopicsError

DAY_MS = 24 * 3600 * 1000


async def config_of(kafka: KafkaSettings, name: str) -> dict[str, str]:
    async with clients.admin_client(kafka) as admin:
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


async def test_a_topic_that_a_broker_does_not_know_yet_has_no_configuration_there(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    """The brokers learn of a new topic at different times."""
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    orders = topics.registry(kafka).orders.name
    async with clients.admin_client(kafka) as admin:
        assert await topics.entries(admin, [orders]) == {}


async def test_creating_is_idempotent_also_for_processes_that_do_it_at_once(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    await asyncio.gather(*(topic_admin.apply(kafka) for _ in range(3)))
    registry = await create_topics(kafka)
    assert await topic_admin.apply(kafka) == await topic_admin.plan(kafka) == []
    assert registry == topics.registry(kafka)
    assert {topic.partitions for topic in (registry.changes, registry.snapshots, registry.orders)} == {4}


async def test_more_replicas_than_there_are_brokers_are_refused_with_the_topic_and_the_reason(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix).model_copy(update={"replication_factor": 9})
    with pytest.raises(TopicsError, match=rf"cannot create the topic {topic_prefix}\..*eplication factor"):
        await topic_admin.apply(kafka)


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
    """A process with another number of partitions would write orders of other owners."""
    await create_topics(settings_for(kafka_bootstrap_servers, topic_prefix, partitions=4))
    with pytest.raises(LayoutError) as refused:
        await topics.require(settings_for(kafka_bootstrap_servers, topic_prefix, partitions=wanted))
    text = str(refused.value)
    assert f"TOPSYNC_PARTITIONS is {wanted}" in text
    assert f"{topic_prefix}.trade.changes.v1 and the others have 4 partitions" in text
    assert "two writers" in text


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("changes", "run `topsync enrich --drain`, delete this topic"),
        ("snapshots", "run `topsync enrich --drain`, delete this topic"),
        ("orders", "delete this topic, then run `topsync topics apply` and `topsync republish`"),
        ("refunds", "delete this topic, then run `topsync topics apply` and `topsync republish`"),
    ],
)
def test_partitions_that_were_added_to_a_topic_are_refused_with_both_numbers_and_the_next_step(
    name: str, cure: str
) -> None:
    topic: Topic = getattr(WANTED, name)
    counts = {wanted.name: wanted.partitions for wanted in WANTED.all()} | {topic.name: 7}
    with pytest.raises(LayoutError) as refused:
        layout.require_all(WANTED, counts)
    text = str(refused.value)
    assert text.startswith(f"{topic.name} has 7 partitions, not 4 (TOPSYNC_PARTITIONS)")
    assert cure in text
    assert "\n" not in text


def test_during_a_drain_only_the_drained_topics_may_have_more_partitions() -> None:
    counts = {wanted.name: wanted.partitions for wanted in WANTED.all()}
    layout.require_all(WANTED, counts | {WANTED.changes.name: 7}, draining=True)
    for other in ({WANTED.orders.name: 7}, {WANTED.changes.name: 3}):
        with pytest.raises(LayoutError):
            layout.require_all(WANTED, counts | other, draining=True)


def test_partitions_added_to_a_topic_that_is_not_read_by_key_do_no_harm() -> None:
    counts = {wanted.name: wanted.partitions for wanted in WANTED.all()}
    layout.require_all(WANTED, counts | {WANTED.dead_letters.name: 3})


@pytest.mark.parametrize(
    ("name", "entry", "value"),
    [
        ("orders", "cleanup.policy", "delete"),
        ("refunds", "cleanup.policy", "compact,delete"),
        ("orders", "delete.retention.ms", "1000"),
        ("changes", "retention.ms", "1000"),
        ("changes", "cleanup.policy", "compact"),
        ("dead_letters", "max.message.bytes", "1048588"),
    ],
)
async def test_a_topic_that_would_lose_needed_records_is_refused_at_every_start(
    kafka_bootstrap_servers: str, topic_prefix: str, name: str, entry: str, value: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    topic: Topic = getattr(await create_topics(kafka), name)
    async with clients.admin_client(kafka) as admin:
        other = {**topic.config, entry: value}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, other)])
    await eventually(lambda: is_set(kafka, topic.name, entry, value), within_seconds=BOUND_SECONDS)
    with pytest.raises(TopicsError) as refused:
        await topics.require(kafka)
    assert f"{topic.name} does not keep what it must: {entry} is {value}, not " in str(refused.value)
    assert "`topsync topics apply`" in str(refused.value)
    await topic_admin.apply(kafka)
    await topics.require(kafka)


def test_a_topic_may_keep_more_than_it_must() -> None:
    longer = {**WANTED.changes.config, "retention.ms": "-1", "max.message.bytes": "99999999"}
    assert topics.falls_short(WANTED.changes, longer) == {}


# Plan and apply.


def found(topic: Topic) -> FoundTopic:
    """The topic as it should be, with the other settings of every topic."""
    return FoundTopic(topic.partitions, topic.replicas, {"segment.bytes": "1", **topic.config})


WANTED = topics.registry(settings_for("nowhere:1", "taobao"))
AS_IT_SHOULD_BE = {topic.name: found(topic) for topic in WANTED.all()}


def planned(**changes: FoundTopic | None) -> list[Action]:
    """The plan if some topics, by their name in the registry, are different or missing."""
    there = dict(AS_IT_SHOULD_BE)
    for name, other in changes.items():
        topic = getattr(WANTED, name).name
        del there[topic]
        if other is not None:
            there[topic] = other
    return topic_plan.plan(WANTED.all(), there)


def test_nothing_is_planned_if_all_topics_are_as_they_should_be() -> None:
    assert planned() == []


def test_missing_topics_are_created_and_different_settings_are_set() -> None:
    other = replace(found(WANTED.orders), config={**WANTED.orders.config, "cleanup.policy": "delete"})
    assert planned(changes=None, orders=other) == [
        Create(WANTED.changes),
        Alter(WANTED.orders, {"cleanup.policy": ("delete", "compact")}),
    ]
    assert "cleanup.policy delete -> compact" in str(planned(orders=other)[0])


def test_numbers_of_partitions_and_replicas_are_left_to_people_with_the_reason() -> None:
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
    async with clients.admin_client(before) as admin:
        own = {**topics.registry(before).changes.config, "segment.ms": "3600000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, own)])
    await eventually(lambda: is_set(before, name, "segment.ms", "3600000"), within_seconds=BOUND_SECONDS)
    wanted = before.model_copy(update={"changes_retention_hours": 48})
    (first, second) = plan = await topic_admin.plan(wanted)
    assert {type(first), type(second)} == {Alter}
    assert (await config_of(wanted, name))["retention.ms"] == str(7 * DAY_MS), "a plan changes nothing"
    assert await topic_admin.apply(wanted) == plan
    after = await config_of(wanted, name)
    assert (after["retention.ms"], after["segment.ms"]) == (str(2 * DAY_MS), "3600000")
    assert after["max.message.bytes"] == own["max.message.bytes"]
    assert await topic_admin.plan(wanted) == []


async def test_topics_that_a_client_created_by_asking_for_them_are_repaired(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    """They have one partition, and are not compacted. Several may run `apply` at once."""
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix)
    async with clients.admin_client(kafka) as admin:
        await admin._send_request(MetadataRequest([topic.name for topic in topics.registry(kafka).all()]))
        await eventually(lambda: are_there(kafka), within_seconds=BOUND_SECONDS)
    with pytest.raises(LayoutError, match="two writers"):
        await topics.require(kafka)
    await asyncio.gather(*(topic_admin.apply(kafka) for _ in range(3)))
    await create_topics(kafka)
    assert await topic_admin.plan(kafka) == []


async def is_set(kafka: KafkaSettings, name: str, entry: str, value: str) -> bool:
    """Brokers show a change of the configuration a moment after it is made."""
    return (await config_of(kafka, name))[entry] == value


async def are_there(kafka: KafkaSettings) -> bool:
    async with clients.admin_client(kafka) as admin:
        return len(await topics.look(admin, topics.registry(kafka))) == len(topics.registry(kafka).all())


async def test_apply_never_changes_the_partitions_of_a_topic_with_records(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    before = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=4)
    registry = await create_topics(before)
    async with producers.idempotent(before) as producer:
        await producer.publish([record(registry.orders.name, "1")])
    wanted = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=5)
    actions = await topic_admin.apply(wanted)
    assert [type(action) for action in actions] == [ByHand] * 4
    assert all("TOPSYNC_PARTITIONS must be 4" in str(action) for action in actions)
    assert await topic_admin.plan(wanted) == actions


def test_partitions_are_added_only_if_no_record_was_written_with_another_number() -> None:
    few = replace(found(WANTED.changes), partitions=1)
    there = AS_IT_SHOULD_BE | {WANTED.changes.name: few}
    assert topic_plan.plan(WANTED.all(), there, unwritten=[WANTED.changes.name]) == [Widen(WANTED.changes, 1)]
    (written,) = topic_plan.plan(WANTED.all(), there)
    assert isinstance(written, ByHand)
    there[WANTED.orders.name] = replace(found(WANTED.orders), partitions=1)
    by_hand = topic_plan.plan(WANTED.all(), there, unwritten=[WANTED.changes.name])
    assert [type(action) for action in by_hand] == [ByHand, ByHand]
