"""The topic registry: every topic, its partitions and its configuration, in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from aiokafka.admin import AIOKafkaAdminClient

from topsync.errors import OperatorError
from topsync.settings import KafkaSettings
from topsync.stream.producer import MAX_REQUEST_BYTES

HOUR_MS = 3600 * 1000

SERVER = "Kafka (KAFKA_BOOTSTRAP_SERVERS)"


class TopicsError(OperatorError):
    """The cluster's topics are not what this version needs. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it should be."""

    name: str
    partitions: int
    about: str
    """What is in it, for people."""
    replicas: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registry:
    """The topics of one installation."""

    changes: Topic
    snapshots: Topic
    orders: Topic
    refunds: Topic
    dead_letters: Topic
    notifications: Topic
    signals: Topic

    @property
    def letters_kept(self) -> timedelta:
        """For how long the topic keeps a dead letter."""
        return timedelta(milliseconds=int(self.dead_letters.config["retention.ms"]))

    def all(self) -> tuple[Topic, ...]:
        """Every topic."""
        return (
            self.changes,
            self.snapshots,
            self.orders,
            self.refunds,
            self.dead_letters,
            self.notifications,
            self.signals,
        )


def registry(settings: KafkaSettings) -> Registry:
    """The registry of an installation."""

    def topic(name: str, partitions: int, about: str, **config: int | str) -> Topic:
        return Topic(
            f"{settings.topic_prefix}.{name}",
            partitions,
            about,
            settings.replication_factor,
            {
                "min.insync.replicas": str(settings.in_sync_replicas),
                "max.message.bytes": str(MAX_REQUEST_BYTES),
                **{key.replace("_", "."): str(value) for key, value in config.items()},
            },
        )

    partitions = settings.partitions
    return Registry(
        changes=topic(
            "trade.changes.v1",
            partitions,
            "Hints, keyed by tid.",
            retention_ms=settings.changes_retention_hours * HOUR_MS,
            # Freshness is told stage by stage, and this is one: when the broker had it.
            message_timestamp_type="LogAppendTime",
        ),
        snapshots=topic(
            "trade.snapshots.v1",
            partitions,
            "Whole orders of the bulk export, keyed by tid; as many partitions as `changes`.",
            retention_ms=settings.changes_retention_hours * HOUR_MS,
        ),
        orders=topic(
            "trade.orders.v1",
            partitions,
            "Full orders, keyed by tid, compacted: what downstream services read.",
            cleanup_policy="compact",
            # A reader that is at most so far behind sees every version and every tombstone.
            min_compaction_lag_ms=settings.orders_compaction_lag_hours * HOUR_MS,
            delete_retention_ms=settings.orders_compaction_lag_hours * HOUR_MS,
        ),
        refunds=topic(
            "trade.refunds.v1",
            partitions,
            "Full refunds, keyed by refund_id, compacted. Not partitioned as `orders`: each names its order.",
            cleanup_policy="compact",
            min_compaction_lag_ms=settings.orders_compaction_lag_hours * HOUR_MS,
            delete_retention_ms=settings.orders_compaction_lag_hours * HOUR_MS,
        ),
        dead_letters=topic(
            "trade.deadletter.v1",
            1,
            "What could not be read or done, whole, with its reason.",
            retention_ms=settings.notices_retention_hours * HOUR_MS,
        ),
        notifications=topic(
            "ops.notifications.v1",
            1,
            "Begin and complete markers of each bootstrap, outcomes of replays, messages about no order.",
            retention_ms=settings.notices_retention_hours * HOUR_MS,
        ),
        signals=topic(
            "ops.signals.v1",
            1,
            "What others ask of topsync: replays. Each is answered in `notifications`.",
            retention_ms=settings.notices_retention_hours * HOUR_MS,
        ),
    )


@asynccontextmanager
async def admin_client(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for the cluster's own affairs."""
    client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def require(settings: KafkaSettings) -> Registry:
    """The registry as the cluster has it: every topic exists, and the three keyed ones agree.

    Raises:
        TopicsError: a topic is missing, or `changes`, `snapshots` and `orders` differ in partitions.
    """
    wanted = registry(settings)
    async with admin_client(settings) as admin:
        found = {
            topic["topic"]: len(topic["partitions"])
            for topic in await admin.describe_topics([topic.name for topic in wanted.all()])
            if not topic["error_code"]
        }
    missing = [topic.name for topic in wanted.all() if topic.name not in found]
    if missing:
        raise TopicsError(f"the cluster lacks {', '.join(missing)}: run `topsync topics apply` first")
    counts = {topic.name: found[topic.name] for topic in (wanted.changes, wanted.snapshots, wanted.orders)}
    if set(counts.values()) != {wanted.changes.partitions}:
        raise TopicsError(
            f"partition counts must all be {wanted.changes.partitions} (TOPSYNC_PARTITIONS), "
            f"but are {counts}: an order would have two writers"
        )
    return wanted
