"""When a transaction commits offsets."""

from __future__ import annotations

from aiokafka import TopicPartition

from consumer.enrich.offsets import OffsetsToCommit

CHANGES, SNAPSHOTS = TopicPartition("changes", 0), TopicPartition("snapshots", 0)


def test_offsets_wait_for_their_time_and_are_then_committed_together() -> None:
    progress = OffsetsToCommit(every_seconds=1, at_most_seconds=3)
    progress.add({CHANGES: 3}, now=10)
    progress.add({SNAPSHOTS: 7}, now=10.5)
    progress.add({CHANGES: 5}, now=10.9)
    assert progress.take(now=10.9, at_once=False) == {}
    assert progress.due_at == 13, "until then a transaction with records may come"
    assert progress.take(now=11, at_once=False) == {CHANGES: 5, SNAPSHOTS: 7}
    assert progress.take(now=12, at_once=True) == {}
    assert progress.due_at is None


def test_they_are_committed_at_once_on_request() -> None:
    progress = OffsetsToCommit(every_seconds=1, at_most_seconds=3)
    progress.add({CHANGES: 3}, now=10)
    assert progress.take(now=10, at_once=True) == {CHANGES: 3}


def test_without_work_that_is_done_no_offset_is_due() -> None:
    progress = OffsetsToCommit(every_seconds=1, at_most_seconds=3)
    progress.add({}, now=10)
    assert progress.due_at is None
