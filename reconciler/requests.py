"""Takes requests out of the topic `signals` and notes them where operators' requests are.

A consumer group with one topic: a single process of the reconcilers reads. After a crash at any
point some signals are read again, which changes nothing: a request is known by its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from schemas import cloud_events, validation
from schemas.notification import Notification, ReplayEnded, ReplayFinished
from schemas.signal import SIGNALS, OrdersReplayRequested, ReplayRequested, Signal
from topsync.base import json_bounds, outages, telemetry
from topsync.base.clock import ServerClock
from topsync.base.service import Lifetime
from topsync.base.settings import KafkaSettings
from topsync.coverage import replay_requests
from topsync.coverage.replay_requests import ReplayRefusedError
from topsync.deadletters import box
from topsync.deadletters.box import DeadLetter, Original
from topsync.platforms.port import ListRules
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.replay_jobs import AskedBy, WantedReplay
from topsync.stream import clients, records
from topsync.stream.clients import Consumer
from topsync.stream.producer import Producer
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

READ_TIMEOUT_SECONDS: Final = 1.0
"""A request to end the process is noticed this late at most."""

AT_ONCE: Final = 100

PASSING_ERRORS: Final = (*OUTAGE_ERRORS, KafkaError)
"""Failures that pass; until then nothing is committed."""


def signals_group(kafka: KafkaSettings) -> str:
    """The consumer group of those who read signals."""
    return f"{kafka.topic_prefix}.signals"


@dataclass(frozen=True, slots=True)
class SignalReader:
    """Runs beside the reconciler, in the same process."""

    kafka: KafkaSettings
    topics: Registry
    pool: Pool
    producer: Producer
    clock: ServerClock
    list_rules: ListRules
    """Of the list of orders: what can be asked for."""

    async def run(self, lifetime: Lifetime) -> None:
        """Read until the process is asked to end."""
        await outages.go_on(
            partial(self._read_all, lifetime),
            lifetime,
            errors=PASSING_ERRORS,
            what="signals cannot be read or noted now; trying again",
        )

    async def _read_all(self, lifetime: Lifetime) -> None:
        async with clients.reader(
            self.kafka, self.topics.signals.name, group_id=signals_group(self.kafka)
        ) as consumer:
            while not lifetime.stopping:
                await self._read(consumer)

    async def _read(self, consumer: Consumer) -> None:
        taken = await consumer.getmany(timeout_ms=int(READ_TIMEOUT_SECONDS * 1000), max_records=AT_ONCE)
        for records_of_one in taken.values():
            for record in records_of_one:
                await self.take(record)
        if taken:
            await consumer.commit()

    async def take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        """Note what a record asks for, or publish why not. Idempotent, except for what it publishes."""
        try:
            wanted = read(record)
        except ValueError as error:
            letter = self._dead_letter(record, str(error))
            letter.report()
            await self.producer.publish([letter.record])
            return
        log.info("replay asked for by a signal", job=wanted.replay, dry_run=wanted.dry_run)
        try:
            await self._note(wanted)
        except ReplayRefusedError as error:
            log.warning("replay refused", job=wanted.replay, reason=str(error))
            refused = refusal(wanted, str(error))
            await self.producer.publish(
                [records.notification(self.topics.notifications.name, refused, at=self.clock.now())]
            )

    async def _note(self, wanted: Signal) -> None:
        """Note a request.

        Raises:
            ReplayRefusedError: it cannot be carried out.
        """
        match wanted:
            case ReplayRequested():
                replay = WantedReplay.of_seller(
                    wanted.replay, wanted.seller_id, wanted.start, wanted.end, wanted.dry_run
                )
                await replay_requests.note(
                    self.pool, replay, AskedBy.SIGNAL, self.list_rules, now=self.clock.now()
                )
            case OrdersReplayRequested():
                await replay_requests.note_orders(
                    self.pool,
                    wanted.replay,
                    sorted(set(wanted.tids)),
                    AskedBy.SIGNAL,
                    dry_run=wanted.dry_run,
                    seller_id=wanted.seller_id,
                )

    def _dead_letter(self, record: ConsumerRecord[bytes, bytes], detail: str) -> DeadLetter:
        return box.letter(
            self.topics,
            "unreadable_signal",
            detail,
            Original.of(record),
            at=self.clock.now(),
            origin=f"reconciler/{record.topic}/{record.partition}/{record.offset}",
        )


def refusal(wanted: Signal, reason: str) -> Notification:
    """The answer to a request that is not carried out."""
    if isinstance(wanted, ReplayRequested):
        return ReplayFinished(
            replay=wanted.replay,
            seller_id=wanted.seller_id,
            state="failed",
            error=reason,
            start=wanted.start,
            end=wanted.end,
            dry_run=wanted.dry_run,
        )
    return ReplayEnded(
        replay=wanted.replay,
        state="failed",
        error=reason,
        orders=len(set(wanted.tids)),
        dry_run=wanted.dry_run,
    )


def read(record: ConsumerRecord[bytes, bytes]) -> Signal:
    """What a record asks for.

    Raises:
        ValueError: it cannot be read, or is of a type that this version does not know. The text holds no
            value of it.
    """
    type_ = cloud_events.attributes(record.headers).get("type")
    model = next((model for model in SIGNALS if model.event_type == type_), None)
    if model is None:
        raise ValueError(f"not of the type {' or '.join(model.event_type for model in SIGNALS)}")
    value = record.value or b""
    json_bounds.check(value)
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        raise ValueError(f"not a request: {validation.problems(error)}") from None
