"""One connection of a client, seen from the platform: its socket, what waits to be written, its token."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Final, Protocol, cast

from topsync.platforms.taobao.channel.frames import Frame, encode
from topsync.simulator.channel import websocket
from topsync.simulator.channel.confirms import ConfirmShape
from topsync.simulator.channel.pushes import Recipient
from topsync.simulator.channel.settings import ChannelSettings
from topsync.simulator.channel.websocket import (
    Closed,
    Message,
    Rejected,
    Skipped,
    Upgraded,
    Violation,
    WebSocketEvent,
    WebSocketReader,
)

LINGER_SECONDS: Final = 5.0
"""How long a connection that ends keeps its last bytes for a client that does not read."""


class House(Protocol):
    """What a connection reports to. No method waits."""

    def arrived(self, client: Client) -> bool:
        """TCP is connected; returns whether the client may stay."""

    def upgraded(self, client: Client) -> None:
        """The upgrade was answered."""

    def received(self, client: Client, message: Message) -> bool:
        """A frame other than Close has come; returns whether the connection may go on."""

    def skipped(self) -> None:
        """A fragment came and was dropped."""

    def rejected(self, status: HTTPStatus | None) -> None:
        """A connection ends: the request was no upgrade, or (None) the client broke a rule."""

    def has_room(self) -> None:
        """A connection that was full can take messages again."""

    def left(self, client: Client) -> None:
        """TCP has ended."""


class Client(asyncio.Protocol):
    """See the module. Nothing is read from a client that does not read, so the waiting bytes are bounded.

    `mute` stops the writing, and `hold` the reading too. Bytes written meanwhile wait within the same bound,
    and are sent when that ends.
    """

    def __init__(self, number: int, house: House, settings: ChannelSettings) -> None:
        self.number = number
        self.recipient: Recipient | None = None
        """None while the client must not be given messages."""
        self.confirm_shape: ConfirmShape | None = None
        """The shape of its confirms, known from the first on."""
        self.allowance: int | None = None if settings.pushes_unasked else 0
        """How many more messages it may be given; None is no limit."""
        self.since_seconds = self.last_traffic_seconds = time.monotonic()
        self._house = house
        self._settings = settings
        self._receiver = WebSocketReader(settings.max_frame_bytes)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._held = self._muted = self._stalled = self._closing = False

    # What happens to it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or end it."""
        # A transport of uvloop is no asyncio.Transport, although it has all of its methods.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._settings.max_unsent_bytes)
        if not self._house.arrived(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read the bytes that came."""
        self.last_traffic_seconds = time.monotonic()
        for event in self._receiver.feed(data):
            if not self._take(event):
                return
        self._pace()

    def pause_writing(self) -> None:
        """The client does not read: give it nothing more, and stop reading from it."""
        self._stalled = True
        self._pace()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stalled = False
        self._pace()
        self._house.has_room()

    def connection_lost(self, _: Exception | None) -> None:
        """The client is gone."""
        self._transport = self.recipient = None
        self._waiting.clear()
        self._house.left(self)

    # What others do to it

    @property
    def is_upgraded(self) -> bool:
        """Whether it speaks WebSocket."""
        return self._receiver.is_open

    @property
    def is_held(self) -> bool:
        """Whether reading and writing are stopped."""
        return self._held

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait to be written, without TCP's own buffers."""
        return self._waiting_bytes + (self._transport.get_write_buffer_size() if self._transport else 0)

    @property
    def is_full(self) -> bool:
        """Whether it must not be given more messages now."""
        return self._stalled or self._waiting_bytes >= self._settings.max_unsent_bytes

    def accept(self, recipient: Recipient) -> None:
        """Let it be given messages from now on, unless it is already closing."""
        if not self._closing and self._transport is not None and not self._transport.is_closing():
            self.recipient = recipient

    def write(self, data: bytes) -> None:
        """Send bytes, as soon as that is allowed."""
        if self._transport is None or self._closing:
            return
        if self._held or self._muted:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._pace()
            return
        self._transport.write(data)
        self.last_traffic_seconds = time.monotonic()

    def send(self, frame: Frame) -> None:
        """Send a frame of the channel."""
        self.write(websocket.frame(websocket.Opcode.BINARY, encode(frame)))

    def close(self, code: int, reason: str) -> None:
        """Send a Close; then end TCP, at once or when the client has answered. Idempotent."""
        if self._closing:
            return
        self.recipient = None
        self.write(websocket.close(code, reason))
        self._closing = True
        if not self._waiting:
            self._finish()

    def drop(self) -> None:
        """End TCP at once and without a Close (docs/platform/channel.md 5.4). Idempotent."""
        self.recipient = None
        if self._transport is not None:
            self._transport.abort()

    def hold(self) -> None:
        """Leave TCP open and stop reading and writing. Idempotent."""
        self._held = True
        self._pace()

    def release(self) -> None:
        """Read and write again. Idempotent."""
        self._held = False
        self._flush()

    def mute(self) -> None:
        """Stop writing, and go on reading. Idempotent."""
        self._muted = True

    def unmute(self) -> None:
        """Write again. Idempotent."""
        self._muted = False
        self._flush()

    def _take(self, event: WebSocketEvent) -> bool:
        match event:
            case Message():
                if not self._house.received(self, event):
                    self._end(None)
                    return False
            case Upgraded():
                self._write_now(event.response)
                self._house.upgraded(self)
            case Skipped():
                self._house.skipped()
            case Rejected():
                self._write_now(event.response)
                self._end(event.status)
            case Violation():
                self._end(None)
            case Closed():
                # TCP ends without a Close in return, as with servers in the field (5.4).
                self._leave()
        return True

    def _end(self, status: HTTPStatus | None) -> None:
        self._house.rejected(status)
        self._leave()

    def _leave(self) -> None:
        self.recipient = None
        if self._transport is not None:
            self._transport.close()
            if self._transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(LINGER_SECONDS, self.drop)

    def _write_now(self, data: bytes) -> None:
        """Nothing delays bytes that come before the first frame: TCP and the upgrade always work."""
        if self._transport is not None:
            self._transport.write(data)

    def _finish(self) -> None:
        wait = self._settings.close_wait_seconds
        if wait and self._transport is not None:
            asyncio.get_running_loop().call_later(wait, self.drop)
        else:
            self._leave()

    def _flush(self) -> None:
        if not self._held and not self._muted and self._waiting:
            waiting = b"".join(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._write_now(waiting)
            if self._closing:
                self._finish()
            self._house.has_room()
        self._pace()

    def _pace(self) -> None:
        """The only place that starts and stops reading."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._held or self.is_full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
