"""Push: the platform's messages into the topic `changes`.

A message is confirmed only after Kafka has acknowledged its record from every in-sync replica (I1). Until
then it is held; when Kafka does not answer, it is written again with a new producer. What the connection
proves is written down for the reconciler, which opens a gap from the last proof when it is lost.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from consumer.push import spans
from consumer.push.cancellations import Cancellations
from consumer.push.connection import WatchedConnection
from consumer.push.export_endings import ExportEndings
from schemas import cloud_events
from schemas.change import Hint
from schemas.notification import MessageReceived
from topsync.base import failpoints, metrics, telemetry, tracing
from topsync.base.errors import flat
from topsync.base.service import Lifetime
from topsync.base.settings import KafkaSettings
from topsync.deadletters import box
from topsync.deadletters.box import Original
from topsync.platforms.message_port import (
    ExportEnded,
    MessageBatch,
    MessageReading,
    Messages,
    PlatformNotice,
    UnreadableMessage,
    Withdrawal,
)
from topsync.store.database import Pool
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.producer import Producer, PublishError
from topsync.stream.records import Record
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

RESTART_SECONDS = 1.0
"""Wait before a new producer is tried after Kafka failed."""

SAID_EVERY_SECONDS = 10.0
"""How often it is said that Kafka fails, as long as it does."""


SENT_TOGETHER = 2000
"""Where records have queued up, this many or a few more go to the producer at once: some milliseconds of
work, and far fewer batches than if each round went by itself."""

SENT_EVERY_SECONDS = 0.01
"""A message that follows another is sent this long after it, with what has come meanwhile: the request costs
far more than a few messages, here and in Kafka. A message that comes alone is sent at once."""

PRODUCER_END_SECONDS = 5.0
"""How long a producer with nothing left to write may take to close."""


def record_of(reading: MessageReading, topics: Registry) -> Record:
    """The record that keeps a message: a change, a notification or, unreadable, a dead letter. Pure."""
    match reading:
        case Hint():
            return records.change(topics.changes.name, reading)
        case Withdrawal(notice) | ExportEnded(notice) | (PlatformNotice() as notice):
            return _notification(notice, topics)
        case UnreadableMessage():
            return _dead_letter(reading, topics)


def _notification(notice: PlatformNotice, topics: Registry) -> Record:
    return records.notification(
        topics.notifications.name,
        MessageReceived(topic=notice.topic, id=notice.id, seller_id=notice.seller_id),
        at=notice.received_at,
    )


def _dead_letter(message: UnreadableMessage, topics: Registry) -> Record:
    letter = box.letter(
        topics,
        message.reason,
        message.detail,
        Original(message.original),
        at=message.received_at,
        origin="push",
        seller_id=message.seller_id,
    )
    letter.report()
    return letter.record


@dataclass(slots=True)
class _Round:
    """Messages that go into Kafka together. How many there are is bounded by the connections' bytes."""

    batch: MessageBatch
    records: Sequence[Record]
    acknowledgements: Sequence[asyncio.Future[object]] | None = None
    """None until the records are with the producer."""
    times: spans.RoundTimes | None = None
    """Only where traces are on."""


@dataclass(slots=True)
class PushService:
    """The connections to the platform, and the messages' way into Kafka."""

    messages: Messages
    kafka: KafkaSettings
    topics: Registry
    pool: Pool
    detail_lag: timedelta
    proof_interval_seconds: float
    _lines: list[WatchedConnection] = field(init=False)
    _cancellations: Cancellations = field(init=False)
    _export_endings: ExportEndings = field(init=False)
    _open_intakes: int = field(init=False)
    _rounds: deque[_Round] = field(default_factory=deque)
    """Everything not confirmed, in order."""
    _unsent: deque[_Round] = field(default_factory=deque)
    """The rounds that the present producer has not received, in order."""
    _taken: asyncio.Event = field(default_factory=asyncio.Event)
    """There may be rounds to send, or none will come any more."""
    _sent: asyncio.Event = field(default_factory=asyncio.Event)
    """Likewise, rounds to confirm."""
    _sent_at_seconds: float = -math.inf
    """When rounds were last sent, by the event loop's clock."""
    _given_up: bool = False

    def __post_init__(self) -> None:
        self._lines = [
            WatchedConnection(number, self.messages, self.pool)
            for number in range(1, self.messages.connection_count + 1)
        ]
        self._cancellations = Cancellations(self.pool)
        self._export_endings = ExportEndings(self.pool)
        self._open_intakes = len(self._lines)

    async def run(self, lifetime: Lifetime) -> None:
        """Run until the process is asked to end: then intake stops, and what is in flight is acknowledged."""
        async with asyncio.TaskGroup() as tasks:
            journals = [tasks.create_task(line.keep(self.proof_interval_seconds)) for line in self._lines]
            journals.append(tasks.create_task(self._cancellations.keep()))
            journals.append(tasks.create_task(self._export_endings.keep()))
            connections = [tasks.create_task(line.connection.run()) for line in self._lines]
            for line in self._lines:
                tasks.create_task(self._take_in(line))
            publishing = tasks.create_task(self._publish())
            lifetime.set_ready()
            await lifetime.wait_for_stop()
            await asyncio.gather(*(line.connection.leave() for line in self._lines))
            for connection in connections:
                await connection
            # With nothing in flight the producer is being closed; let it close.
            if not self._rounds:
                await asyncio.wait([publishing], timeout=PRODUCER_END_SECONDS)
            # What Kafka has not taken by now is not confirmed, and comes again. Signalled twice, because a
            # failure in the task group of `_publish` at this moment would hide the cancellation.
            self._given_up = True
            publishing.cancel()
            for journal in journals:
                journal.cancel()
        for line in self._lines:
            await line.write_once()

    async def _take_in(self, line: WatchedConnection) -> None:
        """Take in batches at once, whatever Kafka does: the process holds what it received, up to a bound."""
        async for batch in line.connection.batches():
            readings = batch.read(self.detail_lag)
            metrics.PUSH_RECEIVED.inc(len(readings))
            kept = [record_of(each, self.topics) for each in readings]
            self._log(readings, kept)
            self._cancellations.note(readings)
            self._export_endings.note(readings)
            taken = _Round(batch, kept)
            if tracing.active is not None:
                taken.times = spans.RoundTimes(time.time_ns())
            self._rounds.append(taken)
            self._unsent.append(taken)
            failpoints.reach("push.received")
            self._taken.set()
        self._open_intakes -= 1
        self._taken.set()
        self._sent.set()

    async def _publish(self) -> None:
        """Until the connections are closed and everything is acknowledged."""
        loop, said_at_seconds = asyncio.get_running_loop(), -math.inf
        while not (self._given_up or self._is_done):
            try:
                async with producers.idempotent(self.kafka) as producer, asyncio.TaskGroup() as tasks:
                    # Also what an earlier producer received and Kafka did not acknowledge.
                    self._unsent = deque(self._rounds)
                    for sent in self._rounds:
                        sent.acknowledgements = None
                    tasks.create_task(self._send(producer))
                    tasks.create_task(self._confirm_acknowledged())
            except* (PublishError, OSError) as failure:
                if loop.time() - said_at_seconds >= SAID_EVERY_SECONDS:
                    said_at_seconds = loop.time()
                    log.warning("Kafka did not acknowledge; writing again", error=flat(failure))
                await asyncio.sleep(RESTART_SECONDS)

    @property
    def _is_done(self) -> bool:
        return not self._open_intakes and not self._rounds

    async def _send(self, producer: Producer) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_done:
            if not self._unsent:
                self._taken.clear()
                await self._taken.wait()
                continue
            early_seconds = self._sent_at_seconds + SENT_EVERY_SECONDS - loop.time()
            if early_seconds > 0:
                await asyncio.sleep(early_seconds)
            sent = self._take_unsent()
            # More than goes at once does not wait.
            self._sent_at_seconds = -math.inf if self._unsent else loop.time()
            acknowledgements = await producer.send([record for each in sent for record in each.records])
            for each in sent:
                each.acknowledgements = acknowledgements
                if each.times is not None:
                    each.times.sent()
            failpoints.reach("push.sent")
            self._sent.set()

    def _take_unsent(self) -> list[_Round]:
        """The oldest rounds, at least a single round."""
        taken = [self._unsent.popleft()]
        count = len(taken[0].records)
        while self._unsent and count < SENT_TOGETHER:
            taken.append(self._unsent.popleft())
            count += len(taken[-1].records)
        return taken

    async def _confirm_acknowledged(self) -> None:
        while not self._is_done:
            oldest = self._rounds[0] if self._rounds else None
            if oldest is None or oldest.acknowledgements is None:
                self._sent.clear()
                await self._sent.wait()
                continue
            for acknowledgement in oldest.acknowledgements:
                await acknowledgement
            failpoints.reach("push.acknowledged")
            self._rounds.popleft()
            oldest.batch.confirm()
            failpoints.reach("push.confirmed")
            metrics.PUSH_CONFIRMED.inc(len(oldest.records))
            self._log_published(oldest.records)
            if oldest.times is not None:
                spans.confirmed(oldest.times, oldest.records, self.messages.source)
        self._taken.set()

    def _log(self, readings: Sequence[MessageReading], kept: Sequence[Record]) -> None:
        """Log each message about an order, for whoever follows an order through the logs."""
        if not telemetry.writes_debug():
            return
        for reading, record in zip(readings, kept, strict=True):
            if isinstance(reading, Hint):
                message_id = cloud_events.attributes(record.headers)["id"]
                log.debug(
                    "message received", tid=reading.tid, event_name=reading.event, message_id=message_id
                )

    def _log_published(self, acknowledged: Sequence[Record]) -> None:
        """Log each hint that Kafka has, so that its message is confirmed."""
        if not telemetry.writes_debug():
            return
        for record in acknowledged:
            if record.topic == self.topics.changes.name:
                log.debug("hint published", tid=records.tid_of_key(record.key), topic=record.topic)
