"""The topic registry: all topics, with their partitions and configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from topsync.base.errors import OperatorError
from topsync.base.settings import KafkaSettings
from topsync.model.kind import Kind
from topsync.stream import clients, layout
from topsync.stream.clients import Admin
from topsync.stream.records import MAX_REQUEST_BYTES

HOUR_MS = 3600 * 1000

SERVER = "Kafka (KAFKA_BOOTSTRAP_SERVERS)"

OUTAGES: tuple[type[BaseException], ...] = (KafkaError, OSError)
"""Raised by the first use of a cluster while it is away or starting: try again later."""


class TopicsError(OperatorError):
    """The cluster's topics are not what this version needs. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be."""

    name: str
    partitions: int
    about: str
    """What the topic holds, for people."""
    replicas: int = 1
    config: Mapping[str, str] = field(default_factory=dict)
    keyed: bool = True
    """Whether a key's records are looked for in the key's partition: then the number of partitions must be
    exactly this. Other topics are written only to their first partition, and read from all."""

    @property
    def compacted(self) -> bool:
        """Whether the newest record of each key is kept for ever."""
        return self.config.get("cleanup.policy") == "compact"


@dataclass(frozen=True, slots=True)
class Registry:
    """The topics of an installation."""

    changes: Topic
    snapshots: Topic
    versions: Mapping[Kind, Topic]
    """The compacted topic of each kind."""
    dead_letters: Topic
    notifications: Topic
    signals: Topic

    @property
    def orders(self) -> Topic:
        """The topic of the kind that leads."""
        return self.versions[Kind.ORDER]

    @property
    def refunds(self) -> Topic:
        """The topic of refunds."""
        return self.versions[Kind.REFUND]

    @property
    def by_name(self) -> Mapping[str, Topic]:
        """Every topic by its name in the contract (`schemas.events`)."""
        return {
            "changes": self.changes,
            "snapshots": self.snapshots,
            **{kind.plural: topic for kind, topic in self.versions.items()},
            "dead_letters": self.dead_letters,
            "notifications": self.notifications,
            "signals": self.signals,
        }

    @property
    def keyed(self) -> tuple[Topic, ...]:
        """The topics that have TOPSYNC_PARTITIONS partitions."""
        return tuple(topic for topic in self.all() if topic.keyed)

    @property
    def letters_kept(self) -> timedelta:
        """How long the topic keeps a dead letter."""
        return timedelta(milliseconds=int(self.dead_letters.config["retention.ms"]))

    def all(self) -> tuple[Topic, ...]:
        """Every topic."""
        return tuple(self.by_name.values())


def _about(kind: Kind) -> str:
    if kind.leads:
        return ": what downstream services read."
    return f". Not partitioned as `{Kind.ORDER.plural}`: each names its order."


def registry(settings: KafkaSettings) -> Registry:
    """The registry of an installation."""

    def topic(name: str, partitions: int | None, about: str, **config: int | str) -> Topic:
        return Topic(
            f"{settings.topic_prefix}.{name}",
            partitions or 1,
            about,
            settings.replication_factor,
            {
                "cleanup.policy": "delete",
                "min.insync.replicas": str(settings.in_sync_replicas),
                "max.message.bytes": str(MAX_REQUEST_BYTES),
                **{key.replace("_", "."): str(value) for key, value in config.items()},
            },
            keyed=partitions is not None,
        )

    partitions = settings.partitions
    # A reader that is no further behind than this sees every version and every tombstone.
    lag_ms = settings.orders_compaction_lag_hours * HOUR_MS
    compacted: dict[str, int | str] = {
        "cleanup_policy": "compact",
        "min_compaction_lag_ms": lag_ms,
        "delete_retention_ms": lag_ms,
    }
    return Registry(
        changes=topic(
            "trade.changes.v1",
            partitions,
            "Hints, keyed by tid.",
            retention_ms=settings.changes_retention_hours * HOUR_MS,
            # Freshness is measured stage by stage; the broker's time of arrival ends a stage.
            message_timestamp_type="LogAppendTime",
        ),
        snapshots=topic(
            "trade.snapshots.v1",
            partitions,
            "Whole orders of the bulk export, keyed by tid; as many partitions as `changes`.",
            retention_ms=settings.changes_retention_hours * HOUR_MS,
        ),
        versions={
            kind: topic(
                f"trade.{kind.plural}.v1",
                partitions,
                f"Full {kind.plural}, keyed by {kind.id_name}, compacted{_about(kind)}",
                **compacted,
            )
            for kind in Kind
        },
        dead_letters=topic(
            "trade.deadletter.v1",
            None,
            "What could not be read or done, whole, with its reason.",
            retention_ms=settings.notices_retention_hours * HOUR_MS,
        ),
        notifications=topic(
            "ops.notifications.v1",
            None,
            "Begin and complete markers of each bootstrap, outcomes of replays, messages about no order.",
            retention_ms=settings.notices_retention_hours * HOUR_MS,
        ),
        signals=topic(
            "ops.signals.v1",
            None,
            "What others ask of topsync: replays. Each is answered in `notifications`.",
            retention_ms=settings.notices_retention_hours * HOUR_MS,
        ),
    )


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as the cluster has it."""

    partitions: int
    replicas: int
    config: Mapping[str, str]
    """All entries that apply, defaults included."""


async def look(admin: Admin, wanted: Registry) -> dict[str, FoundTopic]:
    """The topics that exist, by name. Asking creates none.

    Raises:
        TopicsError: the cluster does not show a topic, or its configuration.
    """
    answers = await admin.describe_topics([topic.name for topic in wanted.all()])
    refused = {each["topic"] for each in answers if each["error_code"] == TopicAuthorizationFailedError.errno}
    if hidden := [topic.name for topic in wanted.all() if topic.name in refused]:
        raise TopicsError(
            f"the cluster does not show {', '.join(hidden)}: topsync must be allowed Describe on its topics"
        )
    described = {each["topic"]: each["partitions"] for each in answers if not each["error_code"]}
    configs = await entries(admin, described)
    return {
        name: FoundTopic(
            len(described[name]),
            min(len(partition["replicas"]) for partition in described[name]),
            {entry[0]: entry[1] for entry in shown},
        )
        for name, shown in configs.items()
    }


Entry = tuple[str, str, bool, int]
"""An entry of a topic's configuration: name, value, whether it is read-only, and its origin."""


async def entries(admin: Admin, names: Iterable[str]) -> dict[str, list[Entry]]:
    """The configuration of each topic, by name, without topics that the broker does not know (yet).

    Raises:
        TopicsError: the cluster does not show it.
    """
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    shown: dict[str, list[Entry]] = {}
    for answer in await admin.describe_configs(resources):
        for code, message, _, name, found in answer.resources:
            if code == UnknownTopicOrPartitionError.errno:
                continue
            if code:
                problem = (message or str(code)).rstrip(".")
                raise TopicsError(
                    f"cannot read the configuration of the topic {name}: {problem}. "
                    "topsync must be allowed DescribeConfigs on its topics"
                )
            shown[name] = [entry[:4] for entry in found]
    return shown


async def require(settings: KafkaSettings, *, draining: bool = False) -> Registry:
    """The registry, once the cluster's topics exist, partitioned and configured as they must be.

    With `draining`, `changes` and `snapshots` may have more partitions than they should.

    Raises:
        TopicsError: a topic is missing or differs.
        LayoutError: a topic has another number of partitions.
    """
    wanted = registry(settings)
    async with clients.admin_client(settings) as admin:
        found = await look(admin, wanted)
    missing = [topic.name for topic in wanted.all() if topic.name not in found]
    if missing:
        raise TopicsError(f"the cluster lacks {', '.join(missing)}: run `topsync topics apply` first")
    counts = {topic.name: found[topic.name].partitions for topic in wanted.all()}
    layout.require_all(wanted, counts, draining=draining)
    for topic in wanted.all():
        if lacking := falls_short(topic, found[topic.name].config):
            entries = ", ".join(f"{name} is {was}, not {value}" for name, (was, value) in lacking.items())
            raise TopicsError(
                f"the topic {topic.name} does not keep what it must: {entries}. Run `topsync topics apply`, "
                "which sets it"
            )
    return wanted


def falls_short(topic: Topic, config: Mapping[str, str]) -> dict[str, tuple[str | None, str]]:
    """The entries of a topic's configuration that promise too little: by name, (present, wanted value)."""
    return {
        name: (config.get(name), value)
        for name, value in topic.config.items()
        if not _is_enough(config.get(name), value)
    }


def _is_enough(found: str | None, wanted: str) -> bool:
    """For a time, a size or a number, more is enough, and -1 means no bound; a word must be equal."""
    try:
        return found is not None and (int(found) == -1 or int(found) >= int(wanted))
    except ValueError:
        return found == wanted
