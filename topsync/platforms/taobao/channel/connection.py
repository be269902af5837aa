"""The message channel over a real socket: connects, reconnects, pulls, confirms, and slows down.

A thin shell. `session` decides what bytes mean, `backoff` how long to wait, `deliveries` how much may be
under way, and `websocket` implements the WebSocket.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from topsync.base.clock import ServerClock
from topsync.platforms.taobao.channel.backoff import Backoff
from topsync.platforms.taobao.channel.config import ConnectionConfig
from topsync.platforms.taobao.channel.deliveries import ConfirmOutbox, Delivery, DeliveryBuffer
from topsync.platforms.taobao.channel.endings import Cause, Ending, TokenUnavailableError
from topsync.platforms.taobao.channel.failures import MAX_PHRASE_CHARS, EndedError, ending_of
from topsync.platforms.taobao.channel.intake import Intake
from topsync.platforms.taobao.channel.proofs import Proofs
from topsync.platforms.taobao.channel.session import (
    ChannelSession,
    ChannelState,
)
from topsync.platforms.taobao.channel.status import ConnectionStatus
from topsync.platforms.taobao.channel.websocket import (
    ClosedError,
    InvalidHandshake,
    SocketOptions,
    WebSocket,
    open_websocket,
)

__all__ = ["ChannelConnection", "ConnectionConfig", "ConnectionStatus", "Delivery", "TokenSource"]

BATCH_DELIVERIES: Final = 500
"""The most that is handed out at once: a few milliseconds of work, then the event loop gets a turn."""

CONFIRMS_PER_WRITE: Final = 2000
"""About 200 kB; then the event loop gets a turn."""

TokenSource = Callable[[], Awaitable[str]]
"""Asks `taobao.tmc.auth.get` for a token. Raises `TokenUnavailableError`; the caller bounds it in time."""


@dataclass(slots=True)
class _Counters:
    confirmed: int = 0
    released: int = 0
    connects: int = 0
    confirms_dropped: int = 0


class ChannelConnection:
    """A client of a group. `run` does the work; meanwhile everything else may be called in the same loop.

    `clock` must have been set (`ClockNotSetError` otherwise). `on_state` is called with the new status at
    each change of state; it must not block or raise. `token_source` is asked before each CONNECT for the
    token that the official client sends (docs/platform/channel.md 3.1); without `token_source` none is sent.
    """

    def __init__(
        self,
        config: ConnectionConfig,
        clock: ServerClock,
        on_state: Callable[[ConnectionStatus], None],
        *,
        token_source: TokenSource | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._on_state = on_state
        self._token_source = token_source
        self._session = ChannelSession(
            config.app_key,
            config.app_secret.get_secret_value(),
            config.group,
            self._state_changed,
            fields=config.fields,
            max_frame_bytes=config.max_frame_bytes,
            max_content_bytes=config.max_content_bytes,
        )
        self._buffer = DeliveryBuffer(config.max_unconfirmed_bytes)
        self._outbox = ConfirmOutbox(config.max_pending_confirms)
        self._backoff = Backoff(config.reconnect, random.random)
        self._counters = _Counters()
        self._proofs = Proofs()
        self._intake = Intake(
            *(self._session, self._buffer, self._proofs, clock), foreign_seconds=config.foreign_seconds
        )
        self._reason = "not started"
        self._changed_at = clock.now()
        self._ending: Ending | None = None
        self._accepted_at_seconds: float | None = None
        self._leaving = asyncio.Event()
        self._attempt: asyncio.Timeout | None = None
        self._finished = asyncio.Event()
        self._finished.set()

    @property
    def status(self) -> ConnectionStatus:
        """How the connection stands now."""
        counters, state = self._counters, self._session.state
        over = state not in (ChannelState.CONNECTED, ChannelState.LEAVING)
        return ConnectionStatus(
            state=state,
            reason=self._reason,
            at=self._changed_at,
            connected_at=self._proofs.connected_at,
            last_frame_at=self._proofs.frame_at,
            last_proof_at=self._proofs.last(self._ending if over else None),
            ending=self._ending,
            received=self._intake.received,
            confirmed=counters.confirmed,
            unreadable=self._intake.unreadable,
            released=counters.released,
            reconnects=max(0, counters.connects - 1),
            confirms_dropped=counters.confirms_dropped,
            foreign=self._intake.foreign,
            unconfirmed_bytes=self._buffer.held_bytes,
        )

    # For the user of the messages

    async def deliveries(self) -> AsyncIterator[list[Delivery]]:
        """The platform's pushes, in batches as they come, across reconnects, until `leave` is called or `run`
        ends.

        Settle each delivery with `confirm` or `release`: unsettled deliveries fill the bound, and then
        nothing more is read.
        """
        while batch := await self._buffer.get(BATCH_DELIVERIES):
            yield batch

    def confirm(self, deliveries: Iterable[Delivery]) -> None:
        """Ends messages for good; call it when their content is stored. Does not wait; idempotent.

        The confirms are written with the next flush, on whatever connection there is then. A confirm that
        finds the outbox full, or no connection before the end, is dropped: the message comes again.
        """
        for delivery in deliveries:
            if not self._buffer.settle(delivery) or delivery.message_id is None:
                continue
            if not self._outbox.add(delivery.message_id):
                self._counters.confirms_dropped += 1

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Gives messages up without confirming them: the platform will deliver them again. Idempotent."""
        for delivery in deliveries:
            self._counters.released += self._buffer.settle(delivery)

    # Life

    async def run(self) -> None:
        """Connects, and connects again for ever, until `leave` was called; or until cancelled."""
        if not self._finished.is_set():
            raise RuntimeError("the connection is already running")
        self._finished.clear()
        ending = Ending(Cause.STOPPED)
        try:
            while not self._leaving.is_set():
                await self._live_and_wait()
            ending = Ending(Cause.LEFT)
        finally:
            self._buffer.end()
            if self._session.state is not ChannelState.CLOSED:
                self._ending = ending
                self._session.close(str(ending))
            self._finished.set()

    async def leave(self) -> None:
        """Ends in good order and waits for the end, at most `leave_seconds` plus the closing time-out.

        At once: no new pulls, `deliveries` ends, and what it has not handed out yet is released. Work under
        way may still be confirmed; then Close 1000. Idempotent.
        """
        self._leaving.set()
        self._buffer.end()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.reschedule(asyncio.get_running_loop().time())
        await self._finished.wait()

    async def _live_and_wait(self) -> None:
        ending = await self._live()
        self._ending = Ending(Cause.LEFT) if self._leaving.is_set() else ending
        self._session.disconnected(str(self._ending))
        now = self._clock.monotonic()
        alive = 0.0 if self._accepted_at_seconds is None else now - self._accepted_at_seconds
        delay = self._backoff.delay_seconds(ending.cause, alive_seconds=alive)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._leaving.wait()

    async def _live(self) -> Ending:
        """A connection from its opening to its end; returns how it ended."""
        ending = Ending(Cause.LOST)
        self._accepted_at_seconds = None
        self._intake.opening()
        self._session.opening()
        try:
            async with asyncio.timeout(None) as attempt:
                self._attempt = attempt
                async with self._websocket() as websocket:
                    await self._connect(websocket)
                    self._attempt = None  # from here on leaving is orderly
                    await self._serve(websocket)
        except* (OSError, InvalidHandshake, ClosedError, EndedError) as errors:
            ending = ending_of(errors)
        finally:
            self._attempt = None
        return ending

    @asynccontextmanager
    async def _websocket(self) -> AsyncIterator[WebSocket]:
        config = self._config
        async with asyncio.timeout(config.open_timeout_seconds):
            websocket = await open_websocket(
                config.uri,
                SocketOptions(config.dead_after_seconds),
                max_message_bytes=config.max_frame_bytes,
                close_timeout_seconds=config.close_timeout_seconds,
                network=config.network,
            )
        try:
            yield websocket
        except EndedError:
            await websocket.close()
            raise
        finally:
            websocket.abort()

    async def _connect(self, websocket: WebSocket) -> None:
        """From the open WebSocket until the platform accepts."""
        self._session.upgraded()
        token = await self._fetch_token()
        await websocket.send([self._session.connect(int(self._clock.estimate().timestamp() * 1000), token)])
        try:
            async with asyncio.timeout(self._config.connect_timeout_seconds):
                while self._session.state is ChannelState.CONNECTING:
                    self._intake.take(await websocket.receive())
        except TimeoutError:
            raise EndedError(Ending(Cause.UNANSWERED)) from None
        self._accepted_at_seconds = self._clock.monotonic()

    async def _fetch_token(self) -> str | None:
        if self._token_source is None:
            return None
        try:
            async with asyncio.timeout(self._config.open_timeout_seconds):
                return await self._token_source()
        except TimeoutError:
            raise EndedError(Ending(Cause.NO_TOKEN, phrase="timed out")) from None
        except TokenUnavailableError as error:
            raise EndedError(Ending(Cause.NO_TOKEN, phrase=str(error)[:MAX_PHRASE_CHARS])) from None

    async def _serve(self, websocket: WebSocket) -> None:
        """Runs until the connection ends: the task that notices raises."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(websocket))
            tasks.create_task(self._write_confirms(websocket))
            tasks.create_task(self._pull_forever(websocket))
            tasks.create_task(self._ping_forever(websocket))
            tasks.create_task(self._prove_forever(websocket))
            tasks.create_task(self._leave_when_asked(websocket))
            if self._config.silence_seconds is not None:
                tasks.create_task(self._watch_silence(websocket, self._config.silence_seconds))

    # In

    async def _read(self, websocket: WebSocket) -> None:
        while True:
            await self._wait_for_room(websocket)
            self._intake.take(await websocket.receive())

    async def _wait_for_room(self, websocket: WebSocket) -> None:
        """At a bound, waits: nothing is taken and the socket is not read, so TCP slows the peer down."""
        if self._has_room:
            return
        while not self._has_room and not websocket.is_closed:
            room = self._buffer.room() if self._buffer.is_full else self._outbox.room()
            waits = (asyncio.ensure_future(room), asyncio.ensure_future(websocket.closed()))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        self._intake.heard()

    @property
    def _has_room(self) -> bool:
        return not self._buffer.is_full and not self._outbox.is_crowded

    async def _watch_silence(self, websocket: WebSocket, limit_seconds: float) -> None:
        while True:
            quiet = self._clock.monotonic() - self._intake.heard_at_seconds
            if quiet >= limit_seconds and self._has_room:
                websocket.abort()  # with a dead peer, a closing handshake only takes time
                raise EndedError(Ending(Cause.SILENT, phrase=f"for {quiet:.0f} s"))
            await asyncio.sleep(max(limit_seconds - quiet, limit_seconds / 10))

    # Out

    async def _write_confirms(self, websocket: WebSocket) -> None:
        while True:
            ids = await self._outbox.first(CONFIRMS_PER_WRITE)
            await self._write(websocket, self._session.confirms(ids))
            self._outbox.drop_first(len(ids))
            self._counters.confirmed += len(ids)
            if len(ids) == CONFIRMS_PER_WRITE:
                await asyncio.sleep(0)

    async def _write(self, websocket: WebSocket, frames: Iterable[bytes]) -> None:
        at = self._clock.now()
        await websocket.send(frames)
        self._proofs.written_at = at

    async def _pull_forever(self, websocket: WebSocket) -> None:
        await asyncio.sleep(self._config.first_pull_seconds)
        while True:
            if self._has_room and self._session.state is ChannelState.CONNECTED:
                await self._write(websocket, [self._session.pull_request()])
            await asyncio.sleep(self._config.pull_interval_seconds)

    async def _ping_forever(self, websocket: WebSocket) -> None:
        """Writes Pings, which keep the path open while nothing is pulled."""
        while True:
            await asyncio.sleep(self._config.ping_interval_seconds)
            await websocket.ping()

    async def _prove_forever(self, websocket: WebSocket) -> None:
        """Notes when the peer's TCP has acknowledged all we wrote: that proves that the connection works."""
        while True:
            await asyncio.sleep(self._config.proof_check_seconds)
            if websocket.is_acknowledged:
                self._proofs.acknowledged()
            self._intake.end_if_foreign()

    async def _leave_when_asked(self, websocket: WebSocket) -> None:
        await self._leaving.wait()
        self._session.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.leave_seconds):
                await self._buffer.settled()
                await self._outbox.emptied()
        await websocket.close()

    def _state_changed(self, state: ChannelState, reason: str) -> None:
        self._reason = reason
        self._changed_at = self._clock.now()
        if state is ChannelState.CONNECTED:
            self._proofs.connected(self._changed_at)
            self._counters.connects += 1
        self._on_state(self.status)
