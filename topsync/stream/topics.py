"""The topic registry: every topic, its partitions and its retention, in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from topsync import telemetry
from topsync.errors import OperatorError
from topsync.settings import KafkaSettings
from topsync.stream.producer import MAX_REQUEST_BYTES

log = telemetry.get_logger(__name__)

DAY_MS = 24 * 3600 * 1000


class TopicsError(OperatorError):
    """The cluster's topics are not what this version needs. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it should be."""

    name: str
    partitions: int
    about: str
    """What is in it, for people."""
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registry:
    """The topics of one installation."""

    changes: Topic
    snapshots: Topic
    orders: Topic
    dead_letters: Topic
    notifications: Topic

    def all(self) -> tuple[Topic, ...]:
        """Every topic."""
        return (self.changes, self.snapshots, self.orders, self.dead_letters, self.notifications)


def registry(settings: KafkaSettings) -> Registry:
    """The registry for an installation's prefix and partition count."""
    prefix, partitions = settings.topic_prefix, settings.partitions
    return Registry(
        changes=Topic(
            f"{prefix}.trade.changes.v1",
            partitions,
            "Hints, keyed by tid.",
            {"retention.ms": str(7 * DAY_MS)},
        ),
        snapshots=Topic(
            f"{prefix}.trade.snapshots.v1",
            partitions,
            "Whole orders of the bulk export, keyed by tid; as many partitions as `changes`.",
            {"retention.ms": str(7 * DAY_MS)},
        ),
        orders=Topic(
            f"{prefix}.trade.orders.v1",
            partitions,
            "Full orders, keyed by tid, compacted: what downstream services read.",
            # A reader that is at most a day behind sees every version and every tombstone.
            {
                "cleanup.policy": "compact",
                "min.compaction.lag.ms": str(DAY_MS),
                "delete.retention.ms": str(DAY_MS),
            },
        ),
        dead_letters=Topic(
            f"{prefix}.trade.deadletter.v1",
            1,
            "What could not be read or done, whole, with its reason.",
            {"retention.ms": str(90 * DAY_MS)},
        ),
        notifications=Topic(
            f"{prefix}.ops.notifications.v1",
            1,
            "Begin and complete markers of each bootstrap, outcomes of replays, messages about no order.",
            {"retention.ms": str(90 * DAY_MS)},
        ),
    )


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def create_missing(settings: KafkaSettings) -> list[str]:
    """Create the topics that the cluster lacks; existing ones are left alone. Returns the names created."""
    wanted = registry(settings).all()
    created = []
    async with _admin(settings) as admin:
        existing = set(await admin.list_topics())
        for topic in wanted:
            if topic.name in existing:
                continue
            config = {
                "min.insync.replicas": str(max(1, settings.replication_factor - 1)),
                "max.message.bytes": str(MAX_REQUEST_BYTES),
                **topic.config,
            }
            new = NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=settings.replication_factor,
                topic_configs=config,
            )
            response = await admin.create_topics([new])
            for name, code, *rest in response.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise TopicsError(f"cannot create the topic {name}: {rest[0] if rest else code}")
            created.append(topic.name)
    if created:
        log.info("topics created", topics=created)
    return created


async def require(settings: KafkaSettings) -> Registry:
    """The registry as the cluster has it: every topic exists, and the three keyed ones agree.

    Raises:
        TopicsError: a topic is missing, or `changes`, `snapshots` and `orders` differ in partitions.
    """
    wanted = registry(settings)
    async with _admin(settings) as admin:
        found = {
            topic["topic"]: len(topic["partitions"])
            for topic in await admin.describe_topics([topic.name for topic in wanted.all()])
            if not topic["error_code"]
        }
    missing = [topic.name for topic in wanted.all() if topic.name not in found]
    if missing:
        raise TopicsError(f"the cluster lacks {', '.join(missing)}: run `topsync topics` first")
    counts = {topic.name: found[topic.name] for topic in (wanted.changes, wanted.snapshots, wanted.orders)}
    if set(counts.values()) != {wanted.changes.partitions}:
        raise TopicsError(
            f"partition counts must all be {wanted.changes.partitions} (TOPSYNC_PARTITIONS), "
            f"but are {counts}: an order would have two writers"
        )
    return wanted
