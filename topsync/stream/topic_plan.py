"""Plans the changes of a cluster's topics by comparing wanted and found topics. Pure."""

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
    """By name: (present value, wanted value)."""

    def __str__(self) -> str:
        entries = ", ".join(f"{name} {was} -> {wanted}" for name, (was, wanted) in self.entries.items())
        return f"alter {self.topic.name}: {entries}"


@dataclass(frozen=True, slots=True)
class Widen:
    """A topic that never held a record has too few partitions: a client created it by asking about it."""

    topic: Topic
    partitions: int
    """How many it has now."""

    def __str__(self) -> str:
        return f"widen {self.topic.name}: {self.partitions} -> {self.topic.partitions} partitions"


@dataclass(frozen=True, slots=True)
class ByHand:
    """A change that only people make."""

    topic: Topic
    what: str

    def __str__(self) -> str:
        return f"by hand {self.topic.name}: {self.what}"


Action = Create | Alter | Widen | ByHand


def plan(
    wanted: Sequence[Topic], found: Mapping[str, FoundTopic], *, unwritten: Collection[str] = ()
) -> list[Action]:
    """All differences, topic by topic; empty when everything is as it should be.

    Topics in `unwritten` are known never to have held a record.
    """
    # Topics that hold records show that the wanted number of partitions is wrong.
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
    what = (
        f"has {found} partitions, not {topic.partitions}: with another number, keys would change their "
        "partition, and orders their writer. If all topics were made so, TOPSYNC_PARTITIONS must be "
        f"{found}. If not: "
    )
    if not is_written:
        return f"{what}nothing is in it, so delete it, and apply again"
    if found > topic.partitions:
        return what + layout.cure(topic, found)
    return f"{what}see docs/operations.md, Partitions"


def _replicas(topic: Topic, found: int, *, is_written: bool) -> str:
    what = (
        f"has {found} replicas, not {topic.replicas}: use kafka-reassign-partitions, or set "
        "TOPSYNC_REPLICATION_FACTOR to what is there"
    )
    return what if is_written else f"{what}. Nothing is in it: you may also delete it, and apply again"
