"""Takes requests out of the topic `signals` and notes them where operators' requests are.

A consumer group with one topic: one process of the reconcilers reads, whichever it is. Dying anywhere in it
reads some signals again, which changes nothing: a request is known by its id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from schemas import cloud_events, problems
from schemas.notification import ReplayFinished
from schemas.signal import ReplayRequested
from topsync import metrics, outages, telemetry
from topsync.clock import ServerClock
from topsync.service import Lifetime
from topsync.settings import KafkaSettings
from topsync.store import replay_jobs
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.replay_jobs import ReplayJob
from topsync.stream import records
from topsync.stream.producer import Producer
from topsync.stream.records import Record
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

READ_TIMEOUT_SECONDS: Final = 1.0
"""A process that is asked to end is heard so late at most."""

AT_ONCE: Final = 100

PASSING_ERRORS: Final = (*OUTAGE_ERRORS, KafkaError)
"""What is over some time; until then nothing is committed."""


@dataclass(frozen=True, slots=True)
class SignalReader:
    """Runs beside the reconciler, in the same process."""

    kafka: KafkaSettings
    topics: Registry
    pool: Pool
    producer: Producer
    clock: ServerClock

    async def run(self, lifetime: Lifetime) -> None:
        """Read until the process is asked to end."""
        await outages.go_on(
            partial(self._read_all, lifetime),
            lifetime,
            errors=PASSING_ERRORS,
            what="signals cannot be read or noted now; trying again",
        )

    async def _read_all(self, lifetime: Lifetime) -> None:
        async with self._consumer() as consumer:
            while not lifetime.stopping:
                await self._read(consumer)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        taken = await consumer.getmany(timeout_ms=int(READ_TIMEOUT_SECONDS * 1000), max_records=AT_ONCE)
        for records_of_one in taken.values():
            for record in records_of_one:
                await self.take(record)
        if taken:
            await consumer.commit()

    async def take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        """Note what a record asks for, or tell why not. Idempotent, but for what it tells."""
        try:
            wanted = read(record)
        except ValueError as error:
            metrics.DEAD_LETTERS.labels("unreadable_signal").inc()
            log.warning("signal set aside", detail=str(error), offset=record.offset)
            await self.producer.publish([self._dead_letter(record, str(error))])
            return
        job = ReplayJob(wanted.replay, wanted.seller_id, wanted.start, wanted.end, wanted.dry_run)
        await replay_jobs.request(self.pool, job)
        if await replay_jobs.get(self.pool, job.id) is None:
            await self.producer.publish([self._refusal(wanted)])
        log.info("replay asked for by a signal", job=job.id, seller_id=job.seller_id, dry_run=job.dry_run)

    def _refusal(self, wanted: ReplayRequested) -> Record:
        return records.notification(
            self.topics.notifications.name,
            ReplayFinished(
                replay=wanted.replay,
                seller_id=wanted.seller_id,
                state="failed",
                error="there is no such seller",
            ),
            at=self.clock.now(),
        )

    def _dead_letter(self, record: ConsumerRecord[bytes, bytes], detail: str) -> Record:
        return records.dead_letter(
            self.topics.dead_letters.name,
            reason="unreadable_signal",
            detail=detail,
            original=record.value,
            original_headers=record.headers,
            key=record.key,
            at=self.clock.now(),
            origin=f"reconciler/{record.topic}/{record.partition}/{record.offset}",
        )

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            self.topics.signals.name,
            bootstrap_servers=self.kafka.kafka_bootstrap_servers,
            group_id=f"{self.kafka.topic_prefix}.signals",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


def read(record: ConsumerRecord[bytes, bytes]) -> ReplayRequested:
    """What a record asks for.

    Raises:
        ValueError: it cannot be read, or is of a type that this version does not know. The text holds none of
            its values.
    """
    type_ = cloud_events.attributes(record.headers).get("type")
    if type_ != ReplayRequested.event_type:
        raise ValueError(f"not of the type {ReplayRequested.event_type}")
    try:
        return ReplayRequested.model_validate_json(record.value or b"")
    except ValidationError as error:
        raise ValueError(f"not a request: {problems.told(error)}") from None
