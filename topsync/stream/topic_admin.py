"""Changes the cluster's topics to what the registry says: only on an operator's command, never silently."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError

from topsync.base import telemetry
from topsync.base.settings import KafkaSettings
from topsync.stream import clients, topic_plan, topics
from topsync.stream.clients import Admin
from topsync.stream.topic_plan import Action, Alter, ByHand, Create, Widen
from topsync.stream.topics import FoundTopic, Topic, TopicsError

log = telemetry.get_logger(__name__)

DYNAMIC_TOPIC_CONFIG = 1
"""Kafka's mark of an entry that was set for the topic itself."""

SHOWN_WITHIN_SECONDS: Final = 10.0
LOOK_AGAIN_SECONDS: Final = 0.1
"""How long brokers may show topics as they were before the controller has changed them, and how often it is
looked."""


async def plan(settings: KafkaSettings) -> list[Action]:
    """What `apply` would do, and what it would leave to operators."""
    async with clients.admin_client(settings) as admin:
        return await _plan(admin, settings)


async def apply(settings: KafkaSettings) -> list[Action]:
    """Create missing topics and set entries that differ. Returns the plan; its `ByHand` were not done.

    Idempotent, and harmless when several do it at once. Entries that the registry does not name keep the
    values that an operator has set. When it returns, brokers show what was done, so services may start.

    Raises:
        TopicsError: the cluster refused; the text says what.
    """
    async with clients.admin_client(settings) as admin:
        actions = await _plan(admin, settings)
        for action in actions:
            match action:
                case Create(topic):
                    await _create(admin, topic)
                case Alter(topic):
                    await _alter(admin, topic)
                case Widen(topic):
                    await _widen(admin, settings, topic)

        async def is_done() -> bool:
            return _is_by_hand(await _plan(admin, settings))

        if not _is_by_hand(actions) and not await _is_shown(is_done):
            log.warning("the brokers do not show yet what was done", seconds=SHOWN_WITHIN_SECONDS)
    for action in actions:
        log.info("topics", action=str(action))
    return actions


def _is_by_hand(actions: Iterable[Action]) -> bool:
    return all(isinstance(action, ByHand) for action in actions)


async def _is_shown(look: Callable[[], Awaitable[bool]]) -> bool:
    """Look until it is as it should be, or the time is up; returns whether it is."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SHOWN_WITHIN_SECONDS
    while not await look():
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    return True


async def _plan(admin: Admin, settings: KafkaSettings) -> list[Action]:
    registry = topics.registry(settings)
    found = await topics.look(admin, registry)
    doubtful = [
        topic
        for topic in registry.all()
        if topic.name in found
        and (found[topic.name].partitions, found[topic.name].replicas) != (topic.partitions, topic.replicas)
    ]
    unwritten = await _unwritten(settings, {topic.name: found[topic.name] for topic in doubtful})
    return topic_plan.plan(registry.all(), found, unwritten=unwritten)


async def _unwritten(settings: KafkaSettings, found: Mapping[str, FoundTopic]) -> set[str]:
    """The topics that never held a record. Deleted and expired records have moved the end, so they count."""
    if not found:
        return set()
    async with clients.reader(settings) as reader:
        ends = await reader.end_offsets(
            [TopicPartition(name, i) for name, topic in found.items() for i in range(topic.partitions)]
        )
    return set(found) - {tp.topic for tp, end in ends.items() if end > 0}


async def _create(admin: Admin, topic: Topic) -> None:
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


async def _widen(admin: Admin, settings: KafkaSettings, topic: Topic) -> None:
    async def is_wide() -> bool:
        found = await topics.look(admin, topics.registry(settings))
        return found[topic.name].partitions == topic.partitions

    try:
        await admin.create_partitions({topic.name: NewPartitions(topic.partitions)})
    except KafkaError as error:
        # Another process that does the same may have been first.
        if not await _is_shown(is_wide):
            raise TopicsError(f"cannot add partitions to the topic {topic.name}: {error}") from None


async def _alter(admin: Admin, topic: Topic) -> None:
    # The request replaces all entries set for the topic, so it must include those set by an operator.
    entries = (await topics.entries(admin, [topic.name])).get(topic.name, [])
    kept = {name: value for name, value, _, source in entries if source == DYNAMIC_TOPIC_CONFIG}
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, {**kept, **topic.config})
    (answer,) = await admin.alter_configs([resource])
    for code, message, *_ in answer.resources:
        if code:
            raise TopicsError(f"cannot alter the topic {topic.name}: {message or code}")
