"""Strimzi's objects for the topics and users of an installation, made from the registry and the rights.

`python -m tests.support.strimzi --write` puts them into deploy/kubernetes/kafka.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import yaml

from reconciler.requests import signals_group
from tests.support.places import ROOT
from topsync.base.settings import EnricherSettings, KafkaSettings
from topsync.stream import producer, topics
from topsync.stream.topics import Registry, Topic

FOLDER: Final = ROOT / "deploy" / "kubernetes" / "kafka"
SETTINGS: Final = ROOT / "deploy" / "kubernetes" / "base" / "settings.env"

Kind = Literal["topic", "group", "transactionalId"]

LOOK: Final = ("Describe", "DescribeConfigs")
"""What every process needs on every topic: it checks them at its start."""


@dataclass(frozen=True, slots=True)
class Right:
    """What a user may do with a resource of Kafka."""

    kind: Kind
    name: str
    operations: tuple[str, ...]
    begins_so: bool = False
    """Whether it holds for every resource whose name begins so."""

    @property
    def acl(self) -> dict[str, Any]:
        """Strimzi's form of it."""
        pattern = "prefix" if self.begins_so else "literal"
        return {
            "resource": {"type": self.kind, "name": self.name, "patternType": pattern},
            "operations": list(self.operations),
        }


def settings() -> KafkaSettings:
    """Kafka's settings as deploy/kubernetes/base has them."""
    lines = SETTINGS.read_text("utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return KafkaSettings.model_construct(
        topic_prefix=values["TOPSYNC_TOPIC_PREFIX"],
        partitions=int(values["TOPSYNC_PARTITIONS"]),
        replication_factor=int(values["TOPSYNC_REPLICATION_FACTOR"]),
    )


def rights(own: KafkaSettings) -> dict[str, tuple[Right, ...]]:
    """The rights of each user: one for each process that speaks to Kafka, and KEDA's."""
    wanted = topics.registry(own)
    group = str(EnricherSettings.model_fields["enricher_group"].default)
    versions = tuple(wanted.versions.values())
    notes = (wanted.notifications, wanted.dead_letters)
    look = Right("topic", f"{own.topic_prefix}.", LOOK, begins_so=True)
    return {
        "push": (look, *_on((wanted.changes, *notes), "Write")),
        "enrich": (
            look,
            *_on((wanted.snapshots,), "Read"),
            # It asks again through `changes`, and moves what a drain finds in partitions too many.
            *_on((wanted.changes,), "Read", "Write"),
            # Before it writes there, it compares the newest records with the tables.
            *_on(versions, "Read", "Write"),
            *_on((wanted.dead_letters,), "Write"),
            Right("group", group, ("Read",)),
            Right("transactionalId", producer.transactional_ids(own, group), ("Describe", "Write"), True),
        ),
        # In its pods operators run their commands: these look at every topic and at the enrichers' offsets.
        # To erase a seller, a command deletes what was read of `snapshots`.
        "reconcile": (
            look,
            *_on((wanted.changes, wanted.dead_letters), "Read", "Write"),
            *_on((wanted.notifications,), "Write"),
            *_on((wanted.snapshots,), "Read", "Write", "Delete"),
            *_on((*versions, wanted.signals), "Read"),
            Right("group", signals_group(own), ("Read",)),
            Right("group", group, ("Describe",)),
        ),
        "bootstrap": (look, *_on((wanted.changes, wanted.snapshots, *notes), "Write")),
        "witness": (look, *_on(versions, "Read")),
        "keda": (
            Right("topic", wanted.changes.name, ("Describe",)),
            Right("group", group, ("Describe",)),
        ),
    }


def _on(some: Sequence[Topic], *operations: str) -> list[Right]:
    return [Right("topic", topic.name, operations) for topic in some]


def topic_objects(registry: Registry) -> list[dict[str, Any]]:
    """A KafkaTopic for each topic of the registry."""
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1",
            "kind": "KafkaTopic",
            "metadata": {"name": topic.name},
            "spec": {
                "topicName": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replicas,
                "config": dict(topic.config),
            },
        }
        for topic in registry.all()
    ]


def user_objects(granted: Mapping[str, tuple[Right, ...]]) -> list[dict[str, Any]]:
    """A KafkaUser for each process."""
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1",
            "kind": "KafkaUser",
            "metadata": {"name": f"topsync-{process}"},
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {"type": "simple", "acls": [right.acl for right in own]},
            },
        }
        for process, own in granted.items()
    ]


def files() -> dict[str, str]:
    """The contents of the two files by their names."""
    own = settings()
    made = {"topics.yaml": topic_objects(topics.registry(own)), "users.yaml": user_objects(rights(own))}
    head = "# Made by `python -m tests.support.strimzi --write`: do not change it by hand.\n"
    return {name: head + yaml.safe_dump_all(objects, sort_keys=False) for name, objects in made.items()}


if __name__ == "__main__":
    for name, text in files().items():
        if "--write" in sys.argv:
            (FOLDER / name).write_text(text, "utf-8")
        else:
            print(text)
