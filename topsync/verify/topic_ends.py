"""Whether the tables are as new as the ends of their topics.

A version is stored before it is published. So a record that the table has not reached means that the table
went back: the database was restored from a backup, or lost its last commits in a failover. Whoever writes on
from it gives revisions a second time, and subscribers pass the new states over. What has been lost is the
newest, so the newest record of a partition says it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiokafka import ConsumerRecord, TopicPartition

from topsync.base.errors import OperatorError
from topsync.base.settings import KafkaSettings
from topsync.model.kind import Kind
from topsync.store.database import Pool
from topsync.store.version_tables import TABLES
from topsync.stream import lookback
from topsync.stream.clients import Consumer
from topsync.stream.topics import Registry
from topsync.verify.catching_up import TopicVersion, shown

FIRST_OFFSETS: Final = 8
"""So many offsets are read first: a record, and the marks of transactions behind it."""

MOST_OFFSETS: Final = 512
"""So many at most; each piece is eight times as large as the one before."""


class OlderDatabaseError(OperatorError):
    """The database is older than a topic; nothing was written."""


async def require(pool: Pool, kafka: KafkaSettings, topics: Registry, partition: int) -> None:
    """Check a partition of each topic of versions, before anything is written there.

    Nobody else may write there either. Rows that are newer than the topic are as they should be.

    Raises:
        OlderDatabaseError: a record was published that the table does not have.
        StalledError, KafkaError: the cluster does not answer.
    """
    async with lookback.reader(kafka) as consumer:
        for kind in Kind:
            tp = TopicPartition(topics.versions[kind].name, partition)
            consumer.assign([tp])
            newest = await _newest(consumer, tp)
            if newest is None:
                continue
            reached = await TABLES[kind].reached_revision(pool, newest.id, seller_id=newest.seller_id)
            if reached < newest.revision:
                raise OlderDatabaseError(
                    f"the database is older than the topic {tp.topic}: {kind} {newest.id} has revision "
                    f"{newest.revision} there, and {reached} in its table. Was a backup restored, or were "
                    "commits lost in a failover? Stop every process, and run `topsync restored` before "
                    "anything is written"
                )


async def _newest(consumer: Consumer, tp: TopicPartition) -> TopicVersion | None:
    begin, end = await lookback.bounds(consumer, tp, None)
    offsets, gone = FIRST_OFFSETS, set[int]()
    while end > begin:
        start = max(begin, end - offsets)
        if newest := last_version(await lookback.between(consumer, tp, start, end), gone):
            return newest
        end, offsets = start, min(8 * offsets, MOST_OFFSETS)
    return None


def last_version(found: Iterable[ConsumerRecord[bytes, bytes]], gone: set[int]) -> TopicVersion | None:
    """The last version in these records, of what was not erased behind it; `gone` is filled with those.

    After a restore, rows of a seller that was erased since are back until the enrichers erase it again: its
    tombstones must not keep them from that.
    """
    for record in reversed(list(found)):
        version = shown(record)
        if version is None:
            continue  # by no writer of ours
        if record.value is None:
            gone.add(version.id)
        elif version.id not in gone:
            return version
    return None
