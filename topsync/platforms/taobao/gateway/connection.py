"""One HTTP/1.1 connection: a request goes out, its answer comes in, and then the next.

httptools (llhttp) parses the answers; this module waits, keeps the bounds and reports failures. Failures are
httpx's exceptions. Their texts never hold an address, because an address may hold a one-time token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_UNREAD_BYTES: Final = 256 * 1024
"""Received and not yet read by the caller. Above this, no more is read from the socket."""

MAX_FRAMING_BYTES: Final = 64 * 1024
"""Bytes in a row that belong to no body: the head of an answer, or what is between and after its chunks."""

_OK: Final = 200

Origin = tuple[str, str, int]
"""Scheme, host and port."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer, as the server sent them."""

    status: int
    headers: list[tuple[bytes, bytes]]

    @property
    def says_where_it_ends(self) -> bool:
        """Whether the body has a length or comes in chunks. If not, it ends when the connection does."""
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers)


class Connection(asyncio.Protocol):
    """For one exchange at a time: `send` once, then `read` until it returns nothing.

    Both raise `httpx.TransportError` when the connection has failed, and at each later call.
    The parser calls the methods named `on_...`.
    """

    def __init__(self, origin: Origin, lost: Callable[[Connection], None]) -> None:
        """`lost` is called once, when the connection has ended for any reason."""
        self.origin = origin
        self.idle_since = 0.0
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._error: httpx.TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._latest = 0.0
        self._read_seconds = 0.0
        self._ends_at = 0.0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: Head | None = None
        self._chunks: list[bytes] = []
        self._unread_bytes = 0
        self._framing_bytes = 0
        self._is_paused = False
        self._is_complete = True
        self._keeps_alive = True

    @property
    def is_reusable(self) -> bool:
        """Whether another exchange may follow: the last answer is complete, and neither side has closed."""
        is_whole = self._is_complete and not self._is_paused
        return is_whole and self._keeps_alive and self._error is None and not self._transport.is_closing()

    async def send(self, request: bytes, *, read_seconds: float, total_seconds: float) -> Head:
        """Write a whole request and wait for the head of its answer.

        No single wait, here and in `read`, is longer than `read_seconds`, and none lasts until later than
        `total_seconds` from now.
        """
        self._read_seconds = read_seconds
        self._ends_at = self._loop.time() + total_seconds
        self._begin()
        self._transport.write(request)
        while (head := self._head) is None:
            await self._wait()
        return head

    async def read(self) -> bytes:
        """Wait for more of the body. Returns no bytes when it is complete."""
        while not self._chunks and not self._is_complete:
            await self._wait()
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._unread_bytes = 0
        if self._is_paused and self._error is None:
            self._is_paused = False
            self._transport.resume_reading()
        return body

    def abort(self) -> None:
        """End the connection at once, whatever is under way."""
        self._fail(httpx.ReadError("the connection is closed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(type(error).__name__))
        if self._framing_bytes > MAX_FRAMING_BYTES:
            self._fail(httpx.RemoteProtocolError("the head of an answer is too large"))

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        ended_well = exc is None and self._error is None
        if ended_well and self._head is not None and not self._head.says_where_it_ends:
            self.on_message_complete()
        self._keeps_alive = False
        if self._timer is not None:
            self._timer.cancel()
        self._fail(httpx.ReadError("the connection was closed" if exc is None else type(exc).__name__))
        self._lost(self)

    def on_message_begin(self) -> None:
        """Refuse an answer that nobody asked for: the next request would get it."""
        if self._is_complete:
            raise HttpParserError("an answer to no request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head. Headers after a chunked body are ignored."""
        if self._head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand over the head, unless it belongs to an interim answer (1xx)."""
        status = self._parser.get_status_code()
        if status < _OK:
            self._headers = []
            return
        self._head = Head(status, self._headers)
        self._wake()

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body until the caller reads it."""
        self._chunks.append(data)
        self._framing_bytes = 0
        self._unread_bytes += len(data)
        if self._unread_bytes > MAX_UNREAD_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """Note the end of the answer, unless it is an interim answer."""
        if self._head is not None:
            self._is_complete = True
            self._keeps_alive = self._parser.should_keep_alive()
            self._framing_bytes = 0
            self._wake()

    def _begin(self) -> None:
        self._headers, self._head, self._is_complete = [], None, False
        self._chunks.clear()
        self._unread_bytes = 0

    async def _wait(self) -> None:
        """Wait until something has happened; a failure is raised by the next wait."""
        if self._error is not None:
            raise self._error
        self._latest = min(self._loop.time() + self._read_seconds, self._ends_at)
        # A timer serves many waits, since almost none lasts that long. With a timer for each wait, as
        # asyncio.timeout_at makes it, the benchmark `gateway` loses about a tenth.
        if self._timer is None or self._timer.when() > self._latest:
            self._set_timer()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._latest, self._look_at_time)

    def _look_at_time(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._latest:
            self._set_timer()
        else:
            self._fail(httpx.ReadTimeout("the answer took too long"))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: httpx.TransportError) -> None:
        if self._error is None:
            self._error = error
        self._transport.abort()
        self._wake()
