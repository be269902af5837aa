"""What has to happen to a cluster's topics, decided without asking anybody: wanted against found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from topsync.stream.topics import Topic


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the cluster has it."""

    partitions: int
    replicas: int
    config: Mapping[str, str]
    """Every entry that applies, also by default."""


@dataclass(frozen=True, slots=True)
class Create:
    """A topic is missing."""

    topic: Topic

    def __str__(self) -> str:
        return f"create {self.topic.name}: {self.topic.partitions} partitions, {self.topic.replicas} replicas"


@dataclass(frozen=True, slots=True)
class Alter:
    """Entries of a topic's configuration differ."""

    topic: Topic
    entries: Mapping[str, tuple[str | None, str]]
    """Name to (as it is, as it should be)."""

    def __str__(self) -> str:
        told = ", ".join(f"{name} {was} -> {wanted}" for name, (was, wanted) in self.entries.items())
        return f"alter {self.topic.name}: {told}"


@dataclass(frozen=True, slots=True)
class ByHand:
    """What is never done here."""

    topic: Topic
    what: str

    def __str__(self) -> str:
        return f"by hand {self.topic.name}: {self.what}"


Action = Create | Alter | ByHand


def plan(wanted: Iterable[Topic], found: Mapping[str, Found]) -> list[Action]:
    """Everything that differs, topic by topic; nothing where all is as it should be."""
    actions: list[Action] = []
    for topic in wanted:
        if topic.name in found:
            actions += _differences(topic, found[topic.name])
        else:
            actions.append(Create(topic))
    return actions


def _differences(topic: Topic, found: Found) -> list[Action]:
    actions: list[Action] = []
    entries = {
        name: (found.config.get(name), value)
        for name, value in topic.config.items()
        if found.config.get(name) != value
    }
    if entries:
        actions.append(Alter(topic, entries))
    if found.partitions != topic.partitions:
        actions.append(
            ByHand(
                topic,
                f"has {found.partitions} partitions, not {topic.partitions}: with another number, keys would "
                "change their partition, and orders their writer. TOPSYNC_PARTITIONS must be what is there",
            )
        )
    if found.replicas != topic.replicas:
        actions.append(
            ByHand(
                topic,
                f"has {found.replicas} replicas, not {topic.replicas}: use kafka-reassign-partitions, or set "
                "TOPSYNC_REPLICATION_FACTOR to what is there",
            )
        )
    return actions
