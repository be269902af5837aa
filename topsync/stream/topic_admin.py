"""Bringing the cluster's topics to what the registry says: only when told to, and never silently."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError

from topsync import telemetry
from topsync.settings import KafkaSettings
from topsync.stream import topic_plan, topics
from topsync.stream.topic_plan import Action, Alter, Create, Found
from topsync.stream.topics import Topic, TopicsError

log = telemetry.get_logger(__name__)

DYNAMIC_TOPIC_CONFIG = 1
"""Kafka's mark of an entry that was set for this very topic."""


async def plan(settings: KafkaSettings) -> list[Action]:
    """What `apply` would do, and what it would leave to people."""
    async with topics.admin_client(settings) as admin:
        return await _plan(admin, settings)


async def apply(settings: KafkaSettings) -> list[Action]:
    """Create what is missing and set what differs. Returns what was planned; `ByHand` was not done.

    Idempotent, and harmless when several do it at once. Entries of a topic that the registry does not name
    keep what an operator has set.

    Raises:
        TopicsError: the cluster refused; the text says what.
    """
    async with topics.admin_client(settings) as admin:
        actions = await _plan(admin, settings)
        for action in actions:
            match action:
                case Create(topic):
                    await _create(admin, topic)
                case Alter(topic):
                    await _alter(admin, topic)
    for action in actions:
        log.info("topics", action=str(action))
    return actions


async def _plan(admin: AIOKafkaAdminClient, settings: KafkaSettings) -> list[Action]:
    wanted = topics.registry(settings).all()
    described = {
        topic["topic"]: topic["partitions"]
        for topic in await admin.describe_topics([topic.name for topic in wanted])
        if not topic["error_code"]
    }
    found = {
        name: Found(
            len(partitions),
            min(len(partition["replicas"]) for partition in partitions),
            {entry[0]: entry[1] for entry in await _entries(admin, name)},
        )
        for name, partitions in described.items()
    }
    return topic_plan.plan(wanted, found)


async def _entries(admin: AIOKafkaAdminClient, name: str) -> list[tuple[str, str, bool, int]]:
    """(name, value, is read-only, source) of each entry of a topic's configuration."""
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    ((_, _, _, _, entries),) = answer.resources
    return [entry[:4] for entry in entries]


async def _create(admin: AIOKafkaAdminClient, topic: Topic) -> None:
    new = NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        replication_factor=topic.replicas,
        topic_configs=dict(topic.config),
    )
    response = await admin.create_topics([new])
    for name, code, *rest in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise TopicsError(f"cannot create the topic {name}: {rest[0] if rest else code}")


async def _alter(admin: AIOKafkaAdminClient, topic: Topic) -> None:
    # The request replaces all that was set for the topic: what an operator has set must be in it, too.
    kept = {
        name: value
        for name, value, _, source in await _entries(admin, topic.name)
        if source == DYNAMIC_TOPIC_CONFIG
    }
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, {**kept, **topic.config})
    (answer,) = await admin.alter_configs([resource])
    for code, message, *_ in answer.resources:
        if code:
            raise TopicsError(f"cannot alter the topic {topic.name}: {message or code}")
