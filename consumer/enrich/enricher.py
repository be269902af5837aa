"""The enricher: owns partitions, and is the only writer of their orders.

Taking a partition over happens in this order, because each step relies on the step before:

1. raise the partition's epoch in PostgreSQL: the former owner can write no row any more;
2. start the partition's transactional producer: Kafka fences the former owner and aborts what it has open;
3. check that the tables have what the topics show: only now is that final (`topsync/verify/topic_ends.py`);
4. publish what a crash left stored but unpublished;
5. read the committed offsets, which are final likewise, and `changes` and `snapshots` from there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from aiokafka.errors import KafkaError

from consumer.enrich.backlog import Backlog
from consumer.enrich.pipeline import Pipeline
from consumer.enrich.republishing import Republishing
from consumer.enrich.restarts import Restarts, is_shut_out
from consumer.enrich.write.writer import PartitionWriter, Tools
from topsync.base import failpoints, metrics, telemetry
from topsync.base.errors import flat
from topsync.base.service import Lifetime
from topsync.base.settings import EnricherSettings, KafkaSettings
from topsync.store import orders
from topsync.store.database import OUTAGE_ERRORS
from topsync.stream import ownership
from topsync.stream import producer as producers
from topsync.stream.ownership import Member
from topsync.verify import topic_ends
from topsync.verify.topic_watch import TopicWatch

log = telemetry.get_logger(__name__)

GATHER_SECONDS = 0.02
"""How long changes wait for others before they are read together, unless nothing has come for a while. They
would wait for a transaction otherwise, which takes longer."""

FIRST_PARTITION = 0
"""The owner of this partition does what a single enricher has to do for all."""


@dataclass(frozen=True, slots=True)
class Enricher:
    """A process of the enrichers."""

    settings: EnricherSettings
    kafka: KafkaSettings
    tools: Tools
    owner: str
    """Who this process is, for people who look at the table of owners."""
    draining: bool = False
    """Whether there may be more partitions than there should be."""

    async def run(self, lifetime: Lifetime) -> None:
        """Own partitions until the process is asked to end; what is in flight is finished or undone."""
        member = Member(
            self.kafka,
            topic=self.tools.topics.changes,
            group=self.settings.enricher_group,
            instance_id=self.settings.enricher_instance_id,
            session_timeout_seconds=self.settings.session_timeout_seconds,
            own=partial(self._own_or_stop, lifetime),
            draining=self.draining,
        )
        lifetime.set_ready()
        watching = asyncio.create_task(self._watch_topics(lifetime, member))
        watching.add_done_callback(lambda _: lifetime.stop())
        try:
            await member.run(lambda: lifetime.stopping)
        finally:
            watching.cancel()
            (outcome,) = await asyncio.gather(watching, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    async def _watch_topics(self, lifetime: Lifetime, member: Member) -> None:
        """Notice when a compacted topic loses records. Whoever owns the first partition does it for all."""
        watch = TopicWatch(self.tools.pool, self.kafka, self.tools.topics)
        while not lifetime.stopping:
            if FIRST_PARTITION in member.partitions:
                try:
                    await watch.look()
                except (*OUTAGE_ERRORS, KafkaError) as error:
                    log.warning("cannot look at the topics; trying again", error=repr(error))
            else:
                metrics.TOPIC_LOST.clear()
            await lifetime.sleep(self.settings.topic_watch_seconds)

    async def _own_or_stop(self, lifetime: Lifetime, partition: int, member: Member) -> None:
        """Own a partition; where that fails for good, the process is not ready any more, and ends."""
        try:
            await self._own(partition, member)
        except Exception:
            lifetime.stop()
            raise

    async def _own(self, partition: int, member: Member) -> None:
        """Write a partition's orders until cancelled, through every failure that can pass."""
        loop, restarts, epoch = asyncio.get_running_loop(), Restarts(), 0
        while True:
            began = loop.time()
            try:
                epoch = await orders.take_over(self.tools.pool, partition, self.owner)
                await self._write(partition, member, epoch)
            except Exception as error:
                wait_seconds = restarts.wait_seconds(error, worked_seconds=loop.time() - began)
                if wait_seconds is None:
                    raise
                if not member.still_owns(partition):
                    return
                metrics.WRITER_RESTARTS.inc()
                log.warning(
                    "partition writer failed; taking over anew", partition=partition, error=flat(error)
                )
                if is_shut_out(error) and await self._has_a_newer_owner(partition, epoch):
                    # The group says so within a session time-out; coming back sooner would only take
                    # the partition away from its rightful owner.
                    wait_seconds = self.settings.session_timeout_seconds
                await asyncio.sleep(wait_seconds)

    async def _has_a_newer_owner(self, partition: int, epoch: int) -> bool:
        """Whether somebody has taken a partition over since; yes if in doubt.

        A fenced writer does not prove another owner: Kafka also fences by itself when a transaction takes too
        long, as while the process or the broker was stopped.
        """
        try:
            return await orders.newest_epoch(self.tools.pool, partition) != epoch
        except OUTAGE_ERRORS:
            return True

    async def _write(self, partition: int, member: Member, epoch: int) -> None:
        """Take a partition over under its new epoch, and write its orders until cancelled or failed."""
        failpoints.reach("takeover.epoch_raised")
        group = self.settings.enricher_group
        async with producers.partition_publisher(
            self.kafka,
            group=group,
            partition=partition,
            spacing_seconds=self.settings.publish_spacing_seconds,
        ) as publisher:
            failpoints.reach("takeover.former_fenced")
            await topic_ends.require(self.tools.pool, self.kafka, self.tools.topics, partition)
            writer = PartitionWriter(self.tools, partition, epoch, publisher)
            await writer.publish_leftovers()
            failpoints.reach("takeover.leftovers_published")
            topics = self.tools.topics
            changes, snapshots = topics.changes.name, topics.snapshots.name
            read = partial(ownership.partition_reader, self.kafka, partition=partition)
            async with (
                read(
                    topic=changes,
                    offset=await member.committed(changes, partition),
                    gather_seconds=GATHER_SECONDS,
                ) as changes_reader,
                read(
                    topic=snapshots, offset=await member.committed(snapshots, partition)
                ) as snapshots_reader,
            ):
                failpoints.reach("takeover.readers_placed")
                log.info("partition taken over", partition=partition, epoch=epoch)
                pipeline = Pipeline(
                    self.tools,
                    writer,
                    batch_changes=self.settings.enricher_batch_changes,
                    batch_snapshots=self.settings.enricher_batch_snapshots,
                    backlog=Backlog(
                        self.settings.backlog_changes,
                        timedelta(seconds=self.settings.backlog_fresh_seconds),
                    ),
                    republishing=Republishing(self.tools.pool, partition, topics.changes.partitions),
                )
                await pipeline.run(changes_reader, snapshots_reader)
