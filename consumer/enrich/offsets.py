"""Offsets of what is done: they are committed with a transaction now and then."""

from __future__ import annotations

from aiokafka import TopicPartition

from topsync.stream.producer import Offsets


class OffsetsToCommit:
    """The offsets of a partition's topics that are done and not committed yet.

    They cost each transaction two more requests, and the broker more writes. What is read again after a crash
    that came before them is already stored and published: the table answers most of it, without a
    call.
    Times are of the same monotonic clock, in seconds.
    """

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._done: dict[TopicPartition, int] = {}
        self._due_at: float | None = None

    @property
    def due_at(self) -> float | None:
        """When a transaction has to commit them; None where there are no offsets."""
        return self._due_at

    def add(self, done: Offsets, *, now: float) -> None:
        """Take in offsets of what will be done when the next transaction is done."""
        self._done |= done
        if self._done and self._due_at is None:
            self._due_at = now + self._every_seconds

    def take(self, *, now: float, at_once: bool) -> Offsets:
        """What the transaction that begins now commits: everything, or nothing where no offset is due."""
        if self._due_at is None or (now < self._due_at and not at_once):
            return {}
        taken, self._done, self._due_at = self._done, {}, None
        return taken
