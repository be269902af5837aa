"""A WebSocket that moves messages in batches: the core of the websockets library on an asyncio transport.

The library's own asyncio connection wakes its reader for each message and writes each message separately,
which costs more than all other work on a message of the channel. Its core does no I/O and leaves both to us:
all messages of a read from the socket are handed over at once, and messages sent together are written
together. Each message stays a WebSocket message of its own, as the platform wants it.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, cast

from websockets.exceptions import InvalidHandshake
from websockets.frames import CloseCode
from websockets.protocol import CLOSED, OPEN
from websockets.uri import parse_uri

from topsync.platforms.taobao import network as networks
from topsync.platforms.taobao.channel.incoming import BoundedProtocol, Oversized, Received
from topsync.platforms.taobao.network import Network

MAX_INBOX_BYTES: Final = 256 * 1024
"""Received but not yet taken; beyond it nothing is read. A single read of the event loop may go beyond it."""

MESSAGE_OVERHEAD_BYTES: Final = 64
"""The memory that a message takes beyond its bytes."""

MAX_UNWRITTEN_BYTES: Final = 4 * 1024 * 1024
"""Written but not yet taken by TCP; beyond it the connection is given up. Each writer waits while TCP takes
nothing, so this is many times what the writers of a connection can leave here."""


_DIRECT: Final = Network()


class ClosedError(Exception):
    """The connection is over. `code` and `reason` are those of the peer's Close frame, if it sent one.

    `broken` says how the peer broke the protocol, if it did; `error` is the operating system's error.
    """

    def __init__(
        self,
        code: int | None = None,
        reason: str = "",
        *,
        broken: str | None = None,
        error: BaseException | None = None,
    ) -> None:
        super().__init__(broken or reason or (str(error) if error else "") or "closed")
        self.code = code
        self.reason = reason
        self.broken = broken
        self.error = error


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """How a dead peer is found: by TCP, because there are no Pongs (docs/platform/channel.md 1.4, 5.2)."""

    dead_after_seconds: float
    """Written bytes that stay unacknowledged for this long end the connection."""

    def apply(self, tcp: socket.socket) -> None:
        """Set each option that the operating system knows."""
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        options = {
            "TCP_NODELAY": 1,
            "TCP_KEEPIDLE": max(1, round(self.dead_after_seconds / 2)),  # seconds until the first probe
            "TCP_KEEPINTVL": max(1, round(self.dead_after_seconds / 6)),  # seconds between probes
            "TCP_KEEPCNT": 3,
            "TCP_USER_TIMEOUT": round(self.dead_after_seconds * 1000),
        }
        for name, value in options.items():
            option = getattr(socket, name, None)
            if option is not None:
                tcp.setsockopt(socket.IPPROTO_TCP, option, value)


class WebSocket(asyncio.Protocol):
    """A connection, made by `open_websocket`. One task may receive, any task may send, all in the same loop.

    `tcp` is the socket below, for its options.
    """

    def __init__(
        self,
        protocol: BoundedProtocol,
        options: SocketOptions,
        close_timeout_seconds: float,
        *,
        is_direct: bool = True,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._is_direct = is_direct
        self._protocol = protocol
        self._options = options
        self._close_timeout_seconds = close_timeout_seconds
        self._transport: asyncio.Transport
        self._opened: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._inbox: list[Received] = []
        self._inbox_bytes = 0
        self._reading = True
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._error: BaseException | None = None
        self._broken: str | None = None
        self._giving_up: asyncio.TimerHandle | None = None

    # Used by its owner

    async def receive(self) -> list[Received]:
        """All messages that have come in; waits for the first. Nothing is lost when it is cancelled.

        Raises:
            ClosedError: the connection is over, and everything it brought has been taken.
        """
        while not self._inbox:
            if self._closed.done():
                raise self._closed_error()
            self._arrived.clear()
            await self._arrived.wait()
        taken, self._inbox, self._inbox_bytes = self._inbox, [], 0
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
        return taken

    async def send(self, messages: Iterable[bytes]) -> None:
        """Write binary messages, all at once; waits while the peer takes nothing.

        Raises:
            ClosedError: the connection is over or ending; some messages may have been written.
        """
        await self._require_open()
        self._protocol.send_messages(messages)
        await self._flush()

    async def ping(self) -> None:
        """Write a Ping. Nobody waits for its Pong: the platform sends none (docs/platform/channel.md 1.4).

        Raises:
            ClosedError: the connection is over or ending.
        """
        await self._require_open()
        self._protocol.send_ping(b"")
        await self._flush()

    @property
    def is_acknowledged(self) -> bool:
        """Whether the peer's TCP has acknowledged everything written so far.

        False, too, where the operating system does not say, and where a proxy is between: it acknowledges
        whatever becomes of it.
        """
        if not self._is_direct or self._transport.is_closing() or self._transport.get_write_buffer_size():
            return False
        try:
            unacknowledged = fcntl.ioctl(self.tcp.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return not struct.unpack("i", unacknowledged)[0]

    async def close(self) -> None:
        """Send Close 1000 and wait for the end; bounded by the time-out. Idempotent."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._write()
            self._end_in_time()
        await self.closed()

    def abort(self) -> None:
        """End TCP without a Close. Idempotent."""
        self._transport.abort()

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self._closed.done()

    async def closed(self) -> None:
        """Wait for the end, whoever brings it about."""
        await asyncio.shield(self._closed)

    async def opened(self) -> None:
        """Ask for the upgrade, and wait for the answer.

        Raises:
            InvalidHandshake, OSError: there will be no WebSocket.
        """
        self._protocol.send_request(self._protocol.connect())
        self._write()
        await self._opened

    # Called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self.tcp: socket.socket = transport.get_extra_info("socket")
        self._options.apply(self.tcp)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._protocol.receive_data(data)
        self._take_events()

    def eof_received(self) -> None:
        """See asyncio.Protocol."""
        self._protocol.receive_eof()
        self._take_events()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._protocol.receive_eof()
        self._error = exc
        if self._giving_up is not None:
            self._giving_up.cancel()
        if not self._opened.done():
            self._opened.set_exception(exc or ConnectionResetError("closed before the upgrade was answered"))
        self._closed.set_result(None)
        self._arrived.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable.set()
        self._answer_ping()
        self._write()

    # In

    def _take_events(self) -> None:
        self._answer_ping()
        self._write()
        received = self._protocol.take_messages()
        self._inbox += received
        self._inbox_bytes += sum(map(_cost_bytes, received))
        self._note_answer()
        if self._protocol.close_expected():
            self._end_in_time()
        if self._inbox:
            self._arrived.set()
            if self._inbox_bytes > MAX_INBOX_BYTES and self._reading and not self._transport.is_closing():
                self._reading = False
                self._transport.pause_reading()

    def _note_answer(self) -> None:
        """Note the answer to the upgrade request. If it is not HTTP, there is no event, only an error."""
        if self._opened.done():
            return
        if self._protocol.handshake_exc is not None:
            self._opened.set_exception(self._protocol.handshake_exc)
        elif self._protocol.state is OPEN:
            self._opened.set_result(None)

    def _answer_ping(self) -> None:
        """Answer the last Ping, but only while the peer takes what we write; until then only it is kept."""
        ping = self._protocol.ping
        if ping is not None and self._writable.is_set() and self._protocol.state is OPEN:
            self._protocol.send_pong(ping)
            self._protocol.ping = None

    # Out

    async def _require_open(self) -> None:
        if self._protocol.state is not OPEN:
            await self.closed()  # bounded in time; afterwards the reason is known
            raise self._closed_error()

    async def _flush(self) -> None:
        self._write()
        if not self._writable.is_set():
            await self._writable.wait()
        if self._closed.done():
            raise self._closed_error()

    def _write(self) -> None:
        """Hand everything that the core has to send to the transport; an empty piece means the end."""
        pieces = self._protocol.data_to_send()
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))
            if not pieces[-1]:
                self._transport.close()
            elif self._transport.get_write_buffer_size() > MAX_UNWRITTEN_BYTES:
                self._broken = "it takes nothing of what we write"
                self._transport.abort()

    def _end_in_time(self) -> None:
        if self._giving_up is None:
            loop = asyncio.get_running_loop()
            self._giving_up = loop.call_later(self._close_timeout_seconds, self._transport.abort)

    def _closed_error(self) -> ClosedError:
        """How the connection ended, from the side that ended it."""
        assert self._protocol.state is CLOSED
        ended = self._protocol.close_exc
        if ended.rcvd is not None:
            return ClosedError(ended.rcvd.code, ended.rcvd.reason, error=self._error)
        if self._broken is not None:
            return ClosedError(broken=self._broken, error=self._error)
        broken = self._protocol.parser_exc
        if broken is not None and not isinstance(broken, EOFError):
            return ClosedError(broken=str(broken), error=self._error)
        return ClosedError(error=self._error)


def _cost_bytes(message: Received) -> int:
    if isinstance(message, Oversized):
        return len(message.head) + len(message.tail) + MESSAGE_OVERHEAD_BYTES
    return len(message) + MESSAGE_OVERHEAD_BYTES


async def open_websocket(
    uri: str,
    options: SocketOptions,
    *,
    max_message_bytes: int,
    close_timeout_seconds: float,
    network: Network = _DIRECT,
) -> WebSocket:
    """A WebSocket to that address: no subprotocol, no extension, no redirect. Not bounded in time.

    A message longer than `max_message_bytes` is handed over as an `Oversized`.

    Raises:
        InvalidHandshake: the peer does not speak WebSocket to us.
        OSError: no connection could be made; `ssl.SSLError` is an `OSError` too.
    """
    address = parse_uri(uri)
    protocol = BoundedProtocol(address, max_message_bytes)
    is_direct = network.is_direct(address.host)
    _, websocket = await networks.connect(
        network,
        lambda: WebSocket(protocol, options, close_timeout_seconds, is_direct=is_direct),
        address.host,
        address.port,
        encrypts=address.secure,
    )
    try:
        await websocket.opened()
    except BaseException:
        websocket.abort()
        raise
    return websocket


__all__ = ["ClosedError", "InvalidHandshake", "SocketOptions", "WebSocket", "open_websocket"]
