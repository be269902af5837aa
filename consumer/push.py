"""Push: the message channel into the topic `changes`.

A message is confirmed only after Kafka has acknowledged its record from every in-sync replica (I1). Until
then it is held; when Kafka does not answer, it is written again with a new producer. What the connection
proves is written down for the reconciler, which opens a gap from the last proof when it is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from consumer.messages import UnreadableMessageError, read_cancellation, read_change
from topsync import metrics, session_rules, telemetry
from topsync.clock import ServerClock
from topsync.service import Lifetime
from topsync.settings import KafkaSettings
from topsync.store import push_connections, sellers
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.push_connections import PushConnection
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.producer import Producer, PublishError
from topsync.stream.records import Record
from topsync.stream.topics import Registry
from topsync.tmc.config import ConnectionConfig
from topsync.tmc.connection import Connection
from topsync.tmc.deliveries import Delivery
from topsync.tmc.session import State
from topsync.tmc.status import ConnectionStatus

log = telemetry.get_logger(__name__)

RESTART_SECONDS = 1.0
"""Wait before a new producer is tried after Kafka failed."""


def record_of(delivery: Delivery, topics: Registry, *, detail_lag: timedelta) -> Record:
    """The record that keeps a delivery: a change, a notification or, unreadable, a dead letter. Pure."""
    message = delivery.message
    if message is None:
        return _dead_letter(delivery, topics, "unreadable_frame", delivery.reason or "unknown")
    try:
        change = read_change(message, received_at=delivery.received_at, detail_lag=detail_lag)
    except UnreadableMessageError as error:
        return _dead_letter(delivery, topics, "unreadable_message", f"{message.topic}: {error}")
    if change is None:
        return records.notification(
            topics.notifications.name,
            subject=f"message:{message.topic}",
            at=delivery.received_at,
            body={"topic": message.topic, "seller_id": str(message.user_id or ""), "id": str(message.id)},
        )
    return records.change(topics.changes.name, change)


def _dead_letter(delivery: Delivery, topics: Registry, reason: str, detail: str) -> Record:
    metrics.DEAD_LETTERS.labels(reason).inc()
    log.warning("message set aside", reason=reason, detail=detail)
    return records.dead_letter(
        topics.dead_letters.name,
        reason=reason,
        detail=detail,
        original=delivery.raw,
        at=delivery.received_at,
        origin="push",
    )


@dataclass(slots=True)
class _InFlight:
    """A delivery on its way into Kafka. How many there are is bounded by the connection's own bytes."""

    delivery: Delivery
    record: Record
    acknowledged: asyncio.Future[object] | None = None

    async def send(self, producer: Producer) -> None:
        self.acknowledged = await producer.send(self.record)


@dataclass(slots=True)
class PushService:
    """One connection to the channel, and its way into Kafka."""

    config: ConnectionConfig
    kafka: KafkaSettings
    topics: Registry
    clock: ServerClock
    pool: Pool
    detail_lag: timedelta
    proof_interval_seconds: float
    _connection: Connection = field(init=False)
    _in_flight: deque[_InFlight] = field(default_factory=deque)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _intake_ended: bool = False
    _given_up: bool = False
    _journal: _Journal = field(init=False)

    def __post_init__(self) -> None:
        self._journal = _Journal(self.pool, self.config.group, self.clock)
        self._connection = Connection(self.config, self.clock, self._state_changed)

    async def run(self, lifetime: Lifetime) -> None:
        """Run until the process is asked to end: then intake stops, and what is in flight is acknowledged."""
        async with asyncio.TaskGroup() as tasks:
            journal = tasks.create_task(self._journal.keep(self._connection, self.proof_interval_seconds))
            connection = tasks.create_task(self._connection.run())
            publishing = tasks.create_task(self._publish())
            lifetime.set_ready()
            await lifetime.wait_for_stop()
            await self._connection.leave()
            await connection
            # What Kafka has not taken by now is not confirmed, and comes again. Said twice, because a
            # failure in the task group of `_publish` at this moment would hide the cancellation.
            self._given_up = True
            publishing.cancel()
            journal.cancel()
        await self._journal.write_once(self._connection.status)

    def _state_changed(self, status: ConnectionStatus) -> None:
        metrics.PUSH_CONNECTED.set(status.state is State.CONNECTED)
        log.info("channel", state=status.state.name.lower(), reason=status.reason)
        self._journal.note(status)

    async def _publish(self) -> None:
        """Until the connection has been left and everything is acknowledged."""
        while not (self._given_up or (self._intake_ended and not self._in_flight)):
            try:
                async with producers.idempotent(self.kafka) as producer, asyncio.TaskGroup() as tasks:
                    for entry in self._in_flight:
                        await entry.send(producer)
                    tasks.create_task(self._confirm_acknowledged())
                    await self._take_in(producer)
            except* (PublishError, OSError) as failure:
                log.warning("Kafka did not acknowledge; writing again", error=repr(failure.exceptions[0]))
                await asyncio.sleep(RESTART_SECONDS)

    async def _take_in(self, producer: Producer) -> None:
        async for delivery in self._connection.deliveries():
            metrics.PUSH_RECEIVED.inc()
            self._journal.note_message(delivery)
            entry = _InFlight(delivery, record_of(delivery, self.topics, detail_lag=self.detail_lag))
            # In the queue before it is sent: whatever happens to the send, it is written again.
            self._in_flight.append(entry)
            await entry.send(producer)
            self._changed.set()
        self._intake_ended = True
        self._changed.set()

    async def _confirm_acknowledged(self) -> None:
        while self._in_flight or not self._intake_ended:
            entry = self._in_flight[0] if self._in_flight else None
            if entry is None or entry.acknowledged is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            await entry.acknowledged
            self._in_flight.popleft()
            self._connection.confirm(entry.delivery)
            metrics.PUSH_CONFIRMED.inc()


class _Journal:
    """Writes each connection's life down for the reconciler; an unreachable database never stops push."""

    def __init__(self, pool: Pool, group: str, clock: ServerClock) -> None:
        self._pool = pool
        self._group = group
        self._clock = clock
        self._current: UUID | None = None
        self._ended: deque[PushConnection] = deque(maxlen=1000)
        self._cancelled: deque[tuple[int, datetime]] = deque(maxlen=1000)
        self._due = asyncio.Event()

    def note(self, status: ConnectionStatus) -> None:
        """Take in a change of state."""
        if status.state is State.CONNECTED:
            self._current = uuid4()
        elif self._current is not None and status.state is not State.LEAVING:
            self._ended.append(self._row(status, self._current, lost=True))
            self._current = None
        self._due.set()

    def note_message(self, delivery: Delivery) -> None:
        """Take in a message that withdraws an authorisation: the seller stops before a call is refused.

        What a crash takes with it is only the promptness: the next call tells the same.
        """
        message = delivery.message
        seller_id = None if message is None else read_cancellation(message)
        if message is not None and seller_id is not None:
            self._cancelled.append((seller_id, message.published_at or delivery.received_at))
            self._due.set()

    async def keep(self, connection: Connection, interval_seconds: float) -> None:
        """Write the state down at each change and at each interval."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_seconds):
                    await self._due.wait()
            self._due.clear()
            await self.write_once(connection.status)

    async def write_once(self, status: ConnectionStatus) -> None:
        """Write what is known now; what cannot be written is kept for the next time."""
        try:
            while self._ended:
                await push_connections.write(self._pool, self._ended[0])
                self._ended.popleft()
            while self._cancelled:
                seller_id, at = self._cancelled[0]
                if await sellers.cancel(self._pool, seller_id, at, session_rules.CANCELLED):
                    log.warning("seller cancelled the authorisation", seller_id=seller_id)
                self._cancelled.popleft()
            if self._current is not None:
                await push_connections.write(self._pool, self._row(status, self._current, lost=False))
        except OUTAGE_ERRORS as error:
            log.warning("cannot write the connection's state down; trying again", error=repr(error))

    def _row(self, status: ConnectionStatus, id: UUID, *, lost: bool) -> PushConnection:  # noqa: A002
        connected_at = status.connected_at or status.at
        return PushConnection(
            id=id,
            channel_group=self._group,
            connected_at=connected_at,
            last_proof_at=max(status.last_frame_at or connected_at, connected_at),
            lost_at=status.at if lost else None,
            reason=status.reason if lost else None,
        )
