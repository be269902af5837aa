"""Offsets of what is done: they are committed with a transaction now and then."""

from __future__ import annotations

from aiokafka import TopicPartition

from topsync.stream.producer import Offsets


class OffsetsToCommit:
    """The offsets of a partition's topics that are done and not committed yet.

    They cost each transaction two more requests, and the broker more writes. What is read again after a crash
    that came before them is already stored and published: the table answers most of it, without a
    call. A transaction of their own costs even more, so they wait longer for one that has records.
    Times are of the same monotonic clock, in seconds.
    """

    def __init__(self, every_seconds: float, at_most_seconds: float) -> None:
        """They go with the first transaction after `every_seconds`, or alone after `at_most_seconds`."""
        self._every_seconds = every_seconds
        self._at_most_seconds = at_most_seconds
        self._done: dict[TopicPartition, int] = {}
        self._since: float | None = None

    @property
    def due_at(self) -> float | None:
        """When a transaction has to commit them, whatever else there is; None where there are no offsets."""
        return None if self._since is None else self._since + self._at_most_seconds

    def add(self, done: Offsets, *, now: float) -> None:
        """Take in offsets of what will be done when the next transaction is done."""
        self._done |= done
        if self._done and self._since is None:
            self._since = now

    def take(self, *, now: float, at_once: bool) -> Offsets:
        """What the transaction that begins now commits: everything, or nothing where no offset is due."""
        if self._since is None or (now < self._since + self._every_seconds and not at_once):
            return {}
        taken, self._done, self._since = self._done, {}, None
        return taken
