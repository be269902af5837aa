"""The layout: how many partitions each topic has, and so which partition holds a key's records.

It follows the registry, on which all processes agree, and never what the cluster says at a moment: an order
whose records are in two partitions has two writers. Kafka lets anybody add partitions at any time, and cannot
remove them.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from topsync.base.errors import OperatorError
from topsync.stream.records import Record, partition_of_key

if TYPE_CHECKING:  # which requires the layout of the cluster, and so imports this module
    from topsync.stream.topics import Registry, Topic

DRAINED_BY = "topsync enrich --drain"


class LayoutError(OperatorError):
    """The cluster has another number of partitions. The text says what to do."""


class Layout:
    """The partitions of one installation's topics."""

    def __init__(self, registry: Registry, *, draining: bool = False) -> None:
        """With `draining`, the topics that the enrichers read may have more partitions than they should."""
        self._topics = {topic.name: topic for topic in registry.all()}
        self._drained = drained(registry) if draining else ()

    def require(self, name: str, found: int) -> None:
        """Check a topic's number of partitions, as the cluster has it.

        Raises:
            LayoutError: the number differs, in a topic whose records are found by their keys.
        """
        topic = self._topics[name]
        if not (topic in self._drained and found > topic.partitions):
            require(topic, found)

    def partition_of(self, record: Record) -> int:
        """The partition of a record; a random partition for a record without a key."""
        partitions = self._topics[record.topic].partitions
        if record.key is None:
            return random.randrange(partitions)  # noqa: S311
        return partition_of_key(record.key, partitions)


def require(topic: Topic, found: int) -> None:
    """Check the number of partitions that a topic has in the cluster.

    Raises:
        LayoutError: the number differs, in a topic whose records are found by their keys.
    """
    if topic.keyed and found != topic.partitions:
        raise LayoutError(differs(topic, found))


def require_known(topic: Topic, partitions: Collection[int] | None) -> None:
    """Check the partitions that a consumer knows; None when it does not know the topic at the moment.

    Raises:
        LayoutError: they are more or fewer than they should be.
    """
    if partitions is not None:
        require(topic, len(partitions))


def drained(registry: Registry) -> tuple[Topic, ...]:
    """The topics that the enrichers read. They may be recreated when everything in them has been read."""
    return (registry.changes, registry.snapshots)


def require_all(wanted: Registry, found: Mapping[str, int], *, draining: bool = False) -> None:
    """Check the partitions of all topics. With `draining`, the topics that the enrichers read may have more.

    Raises:
        LayoutError: the cluster has other numbers.
    """
    there = {found[topic.name] for topic in wanted.keyed}
    if len(there) == 1 and there != {wanted.changes.partitions}:
        (others,) = there
        raise LayoutError(
            f"TOPSYNC_PARTITIONS is {wanted.changes.partitions}, but {wanted.changes.name} and the others "
            f"have {others} partitions: an order would have two writers. Set it to {others}, unless somebody "
            "has added partitions to all of them (docs/operations.md, Partitions)"
        )
    layout = Layout(wanted, draining=draining)
    for topic in wanted.keyed:
        layout.require(topic.name, found[topic.name])


def differs(topic: Topic, found: int) -> str:
    """What is wrong with another number of partitions, and what to do about it."""
    return (
        f"{topic.name} has {found} partitions, not {topic.partitions} (TOPSYNC_PARTITIONS): with both, an "
        f"order would have two writers. {cure(topic, found)}"
    )


def cure(topic: Topic, found: int) -> str:
    """What to do about another number of partitions; the steps are in docs/operations.md."""
    if found < topic.partitions:
        return "Run `topsync topics apply`: it adds them as long as nothing was written, or says what to do"
    if topic.compacted:
        return (
            "Kafka takes none away: delete this topic, then run `topsync topics apply` and `topsync "
            "republish` (docs/operations.md, Partitions)"
        )
    return (
        f"Kafka takes none away: run `{DRAINED_BY}`, delete this topic when it has ended, then run `topsync "
        "topics apply` (docs/operations.md, Partitions)"
    )
