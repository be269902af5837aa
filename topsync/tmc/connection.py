"""The message channel over a real socket: connects, reconnects, pulls, confirms, and holds back.

A thin shell: what bytes mean is decided by `session`, how long to stay away by `backoff`, how much may be
under way by `deliveries`.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from topsync.clock import ServerClock
from topsync.tmc.backoff import Backoff
from topsync.tmc.config import ConnectionConfig
from topsync.tmc.deliveries import ConfirmOutbox, Delivery, DeliveryBuffer
from topsync.tmc.messages import TmcMessage
from topsync.tmc.session import Pushed, Refused, Session, State, Unreadable
from topsync.tmc.status import ConnectionStatus

__all__ = ["Connection", "ConnectionConfig", "ConnectionStatus", "Delivery"]

SOCKET_QUEUE_FRAMES: Final = 16
"""Frames the WebSocket library may hold for us before it stops reading from the socket."""

CONFIRMS_PER_TURN: Final = 256
"""After so many confirms in a row the event loop gets a turn."""

TCP_OPTIONS: Final = (
    ("TCP_KEEPIDLE", 30),  # seconds of silence before the first probe
    ("TCP_KEEPINTVL", 10),  # seconds between probes
    ("TCP_KEEPCNT", 3),  # unanswered probes until the peer counts as dead
    ("TCP_USER_TIMEOUT", 60_000),  # milliseconds that written bytes may stay unacknowledged
)
"""No Pong ever comes, so a dead peer has to be found by TCP (reference/tmc-protocol.md 1.4, 5.2). Each
is set where the operating system knows it."""


class _EndedError(Exception):
    """We end this connection ourselves; the text is the reason."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


@dataclass(slots=True)
class _Counters:
    received: int = 0
    confirmed: int = 0
    unreadable: int = 0
    released: int = 0
    connects: int = 0
    confirms_dropped: int = 0


class Connection:
    """One client of one group. `run` does the work; everything else may be called beside it, same loop.

    `clock` must have been set (`ClockNotSetError` otherwise). `on_state` is called with the new status at
    each change of state; it must not block or raise.
    """

    def __init__(
        self, config: ConnectionConfig, clock: ServerClock, on_state: Callable[[ConnectionStatus], None]
    ) -> None:
        self._config = config
        self._clock = clock
        self._on_state = on_state
        self._session = Session(
            config.app_key,
            config.app_secret.get_secret_value(),
            config.group,
            self._state_changed,
            max_frame_bytes=config.max_frame_bytes,
            max_content_bytes=config.max_content_bytes,
        )
        self._buffer = DeliveryBuffer(config.max_unconfirmed_bytes)
        self._outbox = ConfirmOutbox(config.max_pending_confirms)
        self._backoff = Backoff(config.reconnect, random.random)
        self._counters = _Counters()
        self._sequence = 0
        self._reason = "not started"
        self._changed_at = clock.now()
        self._connected_at: datetime | None = None
        self._last_frame_at: datetime | None = None
        self._heard_at_seconds = 0.0
        self._accepted_at_seconds: float | None = None
        self._leaving = asyncio.Event()
        self._attempt: asyncio.Timeout | None = None
        self._finished = asyncio.Event()
        self._finished.set()

    @property
    def status(self) -> ConnectionStatus:
        """How the connection stands now."""
        counters = self._counters
        return ConnectionStatus(
            state=self._session.state,
            reason=self._reason,
            at=self._changed_at,
            connected_at=self._connected_at,
            last_frame_at=self._last_frame_at,
            received=counters.received,
            confirmed=counters.confirmed,
            unreadable=counters.unreadable,
            released=counters.released,
            reconnects=max(0, counters.connects - 1),
            confirms_dropped=counters.confirms_dropped,
            unconfirmed_bytes=self._buffer.held_bytes,
        )

    # For the user of the messages

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """What the platform pushes, across reconnects, until `leave` is called or `run` ends.

        Each delivery must be settled with `confirm` or `release`: unsettled ones fill the bound, and then
        nothing more is read.
        """
        while (delivery := await self._buffer.get()) is not None:
            yield delivery

    def confirm(self, delivery: Delivery) -> None:
        """Ends a message for good; call it once what it says is stored. Does not wait; idempotent.

        The confirm is written with the next flush, on whatever connection there is then. One that finds
        the outbox full, or no connection before the end, is dropped: the message comes again.
        """
        if not self._buffer.settle(delivery) or delivery.message_id is None:
            return
        if not self._outbox.add(delivery.message_id):
            self._counters.confirms_dropped += 1

    def release(self, delivery: Delivery) -> None:
        """Gives a message up without confirming it: the platform will deliver it again. Idempotent."""
        if self._buffer.settle(delivery):
            self._counters.released += 1

    # Life

    async def run(self) -> None:
        """Connects, and connects again for ever, until `leave` was called; or until cancelled."""
        if not self._finished.is_set():
            raise RuntimeError("the connection is already running")
        self._finished.clear()
        reason = "stopped"
        try:
            while not self._leaving.is_set():
                await self._live_and_wait()
            reason = "left"
        finally:
            self._buffer.end()
            self._session.close(reason)
            self._finished.set()

    async def leave(self) -> None:
        """Ends in good order, and waits for that: at most `leave_seconds` plus the closing time-out.

        At once: no new pulls, `deliveries` ends, and what it has not handed out yet is let go. What is
        being worked on may still be confirmed; then Close 1000. Idempotent.
        """
        self._leaving.set()
        self._buffer.end()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.reschedule(asyncio.get_running_loop().time())
        await self._finished.wait()

    async def _live_and_wait(self) -> None:
        ending = await self._live()
        self._session.disconnected("left" if self._leaving.is_set() else str(ending))
        now = self._clock.monotonic()
        alive = 0.0 if self._accepted_at_seconds is None else now - self._accepted_at_seconds
        delay = self._backoff.delay_seconds(alive_seconds=alive, refused=ending.refused)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._leaving.wait()

    async def _live(self) -> _EndedError:
        """One connection from its opening to its end; answers why it ended."""
        ending = _EndedError("closed")
        self._accepted_at_seconds = None
        self._session.opening()
        try:
            async with asyncio.timeout(None) as attempt:
                self._attempt = attempt
                async with self._dial() as websocket:
                    await self._open(websocket)
                    self._attempt = None  # from here on leaving is orderly
                    await self._serve(websocket)
        except* (OSError, WebSocketException, _EndedError) as errors:
            ending = _ending(errors)
        finally:
            self._attempt = None
        return ending

    def _dial(self) -> connect:
        config = self._config
        return connect(
            config.uri,
            compression=None,
            proxy=None,
            user_agent_header=None,
            open_timeout=config.open_timeout_seconds,
            close_timeout=config.close_timeout_seconds,
            ping_interval=None,  # _ping_forever does it, and says why
            ping_timeout=None,
            max_size=config.max_frame_bytes,
            max_queue=SOCKET_QUEUE_FRAMES,
        )

    async def _open(self, websocket: ClientConnection) -> None:
        """From the open WebSocket to the platform's yes."""
        _set_tcp_options(websocket)
        self._session.upgraded()
        await websocket.send(self._session.connect(int(self._clock.now().timestamp() * 1000)))
        try:
            async with asyncio.timeout(self._config.connect_timeout_seconds):
                while self._session.state is State.CONNECTING:
                    self._take(await websocket.recv())
        except TimeoutError:
            raise _EndedError("no answer to CONNECT") from None
        self._accepted_at_seconds = self._clock.monotonic()

    async def _serve(self, websocket: ClientConnection) -> None:
        """Until the connection ends, which one of the tasks raises."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(websocket))
            tasks.create_task(self._write_confirms(websocket))
            tasks.create_task(self._pull_forever(websocket))
            tasks.create_task(self._ping_forever(websocket))
            tasks.create_task(self._leave_when_asked(websocket))
            if self._config.silence_seconds is not None:
                tasks.create_task(self._watch_silence(websocket, self._config.silence_seconds))

    # In

    async def _read(self, websocket: ClientConnection) -> None:
        while True:
            await self._wait_for_room(websocket)
            self._take(await websocket.recv())

    async def _wait_for_room(self, websocket: ClientConnection) -> None:
        """While the bound is reached nothing is read, the library's queue fills, and TCP pushes back."""
        if not self._buffer.is_full:
            return
        waits = (asyncio.ensure_future(self._buffer.room()), asyncio.ensure_future(websocket.wait_closed()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._heard_at_seconds = self._clock.monotonic()

    def _take(self, data: str | bytes) -> None:
        self._heard_at_seconds = self._clock.monotonic()
        self._last_frame_at = self._clock.now()
        session = self._session
        event = session.receive_text(data) if isinstance(data, str) else session.receive_binary(data)
        match event:
            case Pushed(message):
                self._counters.received += 1
                self._deliver(message, None, message.id, message.raw)
            case Unreadable(raw, reason, message_id):
                self._counters.unreadable += 1
                self._deliver(None, reason, message_id, raw)
            case Refused(code, phrase):
                raise _EndedError(f"refused: {code} {phrase}".rstrip(), refused=True)

    def _deliver(
        self, message: TmcMessage | None, reason: str | None, message_id: int | None, raw: bytes
    ) -> None:
        assert self._last_frame_at is not None
        self._sequence += 1
        self._buffer.put(Delivery(self._sequence, message, reason, message_id, raw, self._last_frame_at))

    async def _watch_silence(self, websocket: ClientConnection, limit_seconds: float) -> None:
        while True:
            quiet = self._clock.monotonic() - self._heard_at_seconds
            if quiet >= limit_seconds and not self._buffer.is_full:
                websocket.transport.abort()  # a closing handshake with a dead peer only takes time
                raise _EndedError("silent")
            await asyncio.sleep(max(limit_seconds - quiet, limit_seconds / 10))

    # Out

    async def _write_confirms(self, websocket: ClientConnection) -> None:
        while True:
            for _ in range(CONFIRMS_PER_TURN):
                message_id = await self._outbox.first()
                await websocket.send(self._session.confirm(message_id))
                self._outbox.drop_first()
                self._counters.confirmed += 1
            await asyncio.sleep(0)

    async def _pull_forever(self, websocket: ClientConnection) -> None:
        await asyncio.sleep(self._config.first_pull_seconds)
        while True:
            if not self._buffer.is_full and self._session.state is State.CONNECTED:
                await websocket.send(self._session.pull_request())
            await asyncio.sleep(self._config.pull_interval_seconds)

    async def _ping_forever(self, websocket: ClientConnection) -> None:
        """Traffic that keeps the path open. The library could do it, but would keep a waiter for each Pong,
        and none ever comes (reference/tmc-protocol.md 1.4): on a connection of months they add up.
        """
        while True:
            await asyncio.sleep(self._config.ping_interval_seconds)
            await websocket.ping()
            websocket.pending_pings.clear()

    async def _leave_when_asked(self, websocket: ClientConnection) -> None:
        await self._leaving.wait()
        self._session.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.leave_seconds):
                await self._buffer.settled()
                await self._outbox.emptied()
        await websocket.close()

    def _state_changed(self, state: State, reason: str) -> None:
        self._reason = reason
        self._changed_at = self._clock.now()
        if state is State.CONNECTED:
            self._connected_at = self._changed_at
            self._counters.connects += 1
        self._on_state(self.status)


def _ending(errors: BaseExceptionGroup[Exception]) -> _EndedError:
    """Why a connection ended: the first of its tasks' errors tells, the others follow from it."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, _EndedError):
        return error
    if isinstance(error, ConnectionClosed):
        return _EndedError(f"connection lost: {error}")
    return _EndedError(f"cannot connect: {type(error).__name__}: {error}")


def _set_tcp_options(websocket: ClientConnection) -> None:
    tcp = websocket.transport.get_extra_info("socket")
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in TCP_OPTIONS:
        option = getattr(socket, name, None)
        if option is not None:
            tcp.setsockopt(socket.IPPROTO_TCP, option, value)
