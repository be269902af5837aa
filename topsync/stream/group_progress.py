"""The progress of a consumer group, seen from outside; and deleting records that it has processed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from topsync.base.settings import KafkaSettings
from topsync.stream import clients
from topsync.stream.clients import Admin, Consumer
from topsync.stream.topics import Topic

_MEMBERS = 5
"""The position of the members in Kafka's answer about a group: error, group, state, kind, protocol,
members."""

OLDEST_SECONDS: Final = 10.0
"""How long the oldest records may take to come; without them, a lag has no age."""

OLDEST_BYTES: Final = 16 * 1024
"""Read of each partition to see its oldest record: a broker sends one batch at least, and little more."""


@dataclass(frozen=True, slots=True)
class TopicLag:
    """How far a group is behind in a topic."""

    records: int
    """Those that the group has not committed; markers of transactions count, too."""
    oldest_at: datetime | None
    """When the oldest of them was written; None where there is none, or only markers."""

    def seconds(self, now: datetime) -> float:
        """How long the oldest has waited; 0 where none waits."""
        return 0.0 if self.oldest_at is None else max(0.0, (now - self.oldest_at).total_seconds())


Offsets = Mapping[TopicPartition, int]
"""For each partition, the offset of the next record."""


class GroupProgress:
    """Reads a group's progress from outside, without joining it and so without taking partitions."""

    def __init__(
        self, group: str, consumer: Consumer, admin: Admin, partitions: Sequence[TopicPartition]
    ) -> None:
        self._group = group
        self._consumer = consumer
        self._admin = admin
        self._partitions = partitions

    async def ends(self) -> Offsets:
        """The end of each partition now."""
        ends: Offsets = await self._consumer.end_offsets(self._partitions)
        return ends

    async def behind(self, marks: Offsets) -> int:
        """How many records before `marks` the group has not committed."""
        done = await self._done()
        return sum(max(0, mark - done[tp]) for tp, mark in marks.items())

    async def lag(self) -> dict[str, int]:
        """How many records of each topic the group has not committed."""
        lag: Counter[str] = Counter({tp.topic: 0 for tp in self._partitions})
        done = await self._done()
        for tp, end in (await self.ends()).items():
            lag[tp.topic] += max(0, end - done[tp])
        return dict(lag)

    async def lag_with_ages(self) -> dict[str, TopicLag]:
        """How many records of each topic the group has not committed, and how old the oldest is.

        It reads a batch of each partition that has any, within `OLDEST_SECONDS`.
        """
        done, ends = await self._done(), await self.ends()
        behind = {tp: end - done[tp] for tp, end in ends.items() if end > done[tp]}
        oldest = await self._oldest({tp: done[tp] for tp in behind})
        return {
            topic: TopicLag(
                sum(records for tp, records in behind.items() if tp.topic == topic),
                min((at for tp, at in oldest.items() if tp.topic == topic), default=None),
            )
            for topic in {tp.topic for tp in self._partitions}
        }

    async def _oldest(self, places: Offsets) -> dict[TopicPartition, datetime]:
        """When the first record at or after each place was written, of those that answer in time."""
        found: dict[TopicPartition, datetime] = {}
        for tp, offset in places.items():
            self._consumer.seek(tp, offset)
        self._consumer.resume(*places)
        ends_at = asyncio.get_running_loop().time() + OLDEST_SECONDS
        while (missing := places.keys() - found.keys()) and asyncio.get_running_loop().time() < ends_at:
            batches = await self._consumer.getmany(*missing, timeout_ms=500, max_records=len(missing))
            for tp, batch in batches.items():
                found[tp] = datetime.fromtimestamp(batch[0].timestamp / 1000, UTC)
                self._consumer.pause(tp)
            if not batches and await self._at_ends(missing):
                break
        self._consumer.pause(*places)
        return found

    async def _at_ends(self, partitions: Collection[TopicPartition]) -> bool:
        """Whether nothing is left to read there: only markers were."""
        ends = await self._consumer.end_offsets(list(partitions))
        return all([await self._consumer.position(tp) >= ends[tp] for tp in partitions])

    async def members(self) -> int:
        """How many processes are in the group now."""
        (answer,) = await self._admin.describe_consumer_groups([self._group])
        return sum(len(group[_MEMBERS]) for group in answer.groups)

    async def delete_done(self, topic: Topic) -> int:
        """Delete the group's committed records of a topic that no other group reads. Returns how many.

        From then on the broker shows them to nobody, and frees their space together with their segment.

        Raises:
            KafkaError: the cluster does not allow it, or does not answer.
        """
        begins = await self._consumer.beginning_offsets(self._partitions)
        mine = {tp: done for tp, done in (await self._done()).items() if tp.topic == topic.name}
        doomed = {tp: done for tp, done in mine.items() if done > begins[tp]}
        if doomed:
            await self._admin.delete_records({tp: RecordsToDelete(done) for tp, done in doomed.items()})
        return sum(done - begins[tp] for tp, done in doomed.items())

    async def _done(self) -> Offsets:
        """The group's committed offsets. Records that no longer exist count as committed."""
        begins = await self._consumer.beginning_offsets(self._partitions)
        return {tp: max(begins[tp], await self._consumer.committed(tp) or 0) for tp in self._partitions}


@asynccontextmanager
async def group_progress(
    settings: KafkaSettings, group: str, wanted: Sequence[Topic]
) -> AsyncIterator[GroupProgress]:
    """The progress of a group in these topics.

    Raises:
        KafkaError: the cluster does not answer.
    """
    partitions = [
        TopicPartition(topic.name, number) for topic in wanted for number in range(topic.partitions)
    ]
    async with (
        clients.reader(settings, group_id=group, max_partition_fetch_bytes=OLDEST_BYTES) as consumer,
        clients.admin_client(settings) as admin,
    ):
        # Assigned by hand: whoever subscribes becomes a member.
        consumer.assign(partitions)
        consumer.pause(*partitions)
        yield GroupProgress(group, consumer, admin, partitions)
