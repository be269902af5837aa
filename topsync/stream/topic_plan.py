"""What has to happen to a cluster's topics, decided without asking anybody: wanted against found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from topsync.stream import layout
from topsync.stream.topics import FoundTopic, Topic


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
class Widen:
    """A topic in which nothing was ever written has too few partitions: whoever looked at it made it."""

    topic: Topic
    partitions: int
    """As it has now."""

    def __str__(self) -> str:
        return f"widen {self.topic.name}: {self.partitions} -> {self.topic.partitions} partitions"


@dataclass(frozen=True, slots=True)
class ByHand:
    """What is never done here."""

    topic: Topic
    what: str

    def __str__(self) -> str:
        return f"by hand {self.topic.name}: {self.what}"


Action = Create | Alter | Widen | ByHand


def plan(
    wanted: Sequence[Topic], found: Mapping[str, FoundTopic], *, unwritten: Collection[str] = ()
) -> list[Action]:
    """Everything that differs, topic by topic; nothing where all is as it should be.

    Of a topic in `unwritten` is known that no record was ever in it.
    """
    # What is written under another number of partitions says that the number that is wanted is wrong.
    may_widen = all(
        found[topic.name].partitions == topic.partitions
        for topic in wanted
        if topic.keyed and topic.name in found.keys() - set(unwritten)
    )
    actions: list[Action] = []
    for topic in wanted:
        if topic.name in found:
            is_written = topic.name not in unwritten
            actions += _differences(topic, found[topic.name], is_written=is_written, may_widen=may_widen)
        else:
            actions.append(Create(topic))
    return actions


def _differences(topic: Topic, found: FoundTopic, *, is_written: bool, may_widen: bool) -> list[Action]:
    actions: list[Action] = []
    entries = {
        name: (found.config.get(name), value)
        for name, value in topic.config.items()
        if found.config.get(name) != value
    }
    if entries:
        actions.append(Alter(topic, entries))
    if topic.keyed and found.partitions != topic.partitions:
        if found.partitions < topic.partitions and may_widen and not is_written:
            actions.append(Widen(topic, found.partitions))
        else:
            actions.append(ByHand(topic, _partitions(topic, found.partitions, is_written=is_written)))
    if found.replicas != topic.replicas:
        actions.append(ByHand(topic, _replicas(topic, found.replicas, is_written=is_written)))
    return actions


def _partitions(topic: Topic, found: int, *, is_written: bool) -> str:
    told = (
        f"has {found} partitions, not {topic.partitions}: with another number, keys would change their "
        "partition, and orders their writer. If all topics were made so, TOPSYNC_PARTITIONS must be "
        f"{found}. If not: "
    )
    if not is_written:
        return f"{told}nothing is in it, so delete it, and apply again"
    if found > topic.partitions:
        return told + layout.cure(topic, found)
    return f"{told}see docs/operations.md, Partitions"


def _replicas(topic: Topic, found: int, *, is_written: bool) -> str:
    told = (
        f"has {found} replicas, not {topic.replicas}: use kafka-reassign-partitions, or set "
        "TOPSYNC_REPLICATION_FACTOR to what is there"
    )
    return told if is_written else f"{told}. Nothing is in it: you may also delete it, and apply again"
