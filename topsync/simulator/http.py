"""HTTP/1.1 for the gateway: thousands of short calls a second over kept connections, and a few long answers.

aiohttp.web spends about as much processor time on a request as all else that a call costs; this spends a
fraction of it. llhttp parses (by way of httptools, as in uvicorn), so bodies with a length or in chunks,
pipelined requests, HTTP/1.0 and offers to upgrade are understood as by any server.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Final, Protocol, TypeAlias, cast
from urllib.parse import urlsplit

import httptools

MAX_REQUEST_BYTES: Final = 1 << 20
"""Head and body together."""

IDLE_SECONDS: Final = 75.0
"""A connection on which nothing came for so long, while nothing was being answered, is closed."""

_SWEEP_SECONDS = 15.0
_MOST_WAITING = 16
"""Pipelined requests behind the one that is being answered; with more, reading pauses."""
_NO_LINGER = struct.pack("ii", 1, 0)
_OFFERS = (b"upgrade", b"expect")
"""Headers that have been dealt with when a request is parsed for the second time."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_log = logging.getLogger(__name__)

Handler: TypeAlias = "Callable[[Exchange], Coroutine[None, None, None] | None]"
"""Answers an exchange: before it returns, or in the coroutine that it returns."""


class Outlet(Protocol):
    """What an answer is written to."""

    def write(self, data: bytes) -> None:
        """Send, or keep until the client takes it."""

    def write_after(self, seconds: float, data: bytes) -> None:
        """Send a whole answer so much later; what the client asks meanwhile waits."""

    async def drain(self) -> None:
        """Wait until there is room for more; raises ConnectionResetError when the client has gone."""

    def close(self) -> None:
        """End TCP behind what was written."""

    def reset(self) -> None:
        """End TCP at once."""


class Exchange:
    """A request and the way to answer it: once, by `answer`, by `begin` and `write`, or by `reset`."""

    __slots__ = ("_connection", "_persistence", "body", "headers", "path", "query", "verb")

    def __init__(
        self,
        connection: Outlet,
        verb: str,
        target: str,
        headers: Mapping[bytes, bytes],
        body: bytes,
        persistence: str,
    ) -> None:
        path, _, query = target.partition("?")
        if not path.startswith("/"):  # the whole address, as to a proxy
            path, query = urlsplit(target).path, urlsplit(target).query
        self.verb = verb
        self.path = path
        self.query = query
        self.headers = headers
        """By name in lower case; of repeated ones, the last."""
        self.body = body
        self._connection = connection
        self._persistence = persistence

    def answer(
        self, body: bytes, headers: Mapping[str, str], status: int = 200, *, after_seconds: float = 0.0
    ) -> None:
        """Answer with a whole body, now or so much later."""
        head = self._head(status, headers, len(body))
        answer = head if self.verb == "HEAD" else head + body
        if after_seconds:
            self._connection.write_after(after_seconds, answer)
        else:
            self._connection.write(answer)

    def begin(self, headers: Mapping[str, str], length: int) -> None:
        """Begin an answer with a body of so many bytes, which `write` sends."""
        self._connection.write(self._head(200, headers, length))

    async def write(self, block: bytes) -> None:
        """Send a part of the body, and wait while the client is slow to take it.

        Raises:
            ConnectionResetError: the client has gone.
        """
        self._connection.write(block)
        await self._connection.drain()

    def cut(self) -> None:
        """End TCP behind what was written, however much of the body is missing."""
        self._connection.close()

    def reset(self) -> None:
        """End TCP so that the client sees a reset, not an end."""
        self._connection.reset()

    def _head(self, status: int, headers: Mapping[str, str], length: int) -> bytes:
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        first = "HTTP/1.1 200 OK" if status == 200 else f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
        return f"{first}\r\n{lines}Content-Length: {length}\r\n{self._persistence}\r\n".encode("latin-1")


class HttpServer:
    """Listens, and hands every request to one handler."""

    def __init__(self, handler: Handler, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._handler = handler
        self._idle_seconds = idle_seconds
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._adopting: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; answers with the port, where 0 was to choose one.

        Raises:
            OSError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._handler, self._connections), host, port
        )
        self._sweep()
        return cast("int", self._server.sockets[0].getsockname()[1])

    def begin(self) -> None:
        """Serve connections that are adopted, without listening."""
        self._sweep()

    def adopt(self, connection: socket.socket, data: bytes) -> None:
        """Go on with a connection on which so much has been received that is not answered yet."""
        task = asyncio.get_running_loop().create_task(self._adopt(connection, data))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, connection: socket.socket, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.connect_accepted_socket(
                lambda: _Connection(self._handler, self._connections), connection
            )
        except OSError:  # the client has gone meanwhile
            connection.close()
            return
        if data:
            protocol.data_received(data)

    def release_idle(self, take: Callable[[int], bool]) -> None:
        """Offer the descriptor of each connection on which nothing is pending; what is taken is let go."""
        for connection in self._connections.copy():
            connection.release_if_idle(take)

    async def stop(self, grace_seconds: float) -> None:
        """Stop listening, let what is being answered take so long, then end every connection."""
        if self._sweeper is None:
            return
        if self._server is not None:
            self._server.close()
        self._sweeper.cancel()
        self._sweeper = None
        if self._adopting:
            await asyncio.wait(self._adopting)
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.wait(tasks)
        due_seconds = max((connection.due_in_seconds for connection in self._connections), default=0.0)
        await asyncio.sleep(min(due_seconds, grace_seconds))
        for connection in self._connections.copy():
            connection.abort()
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for connection in self._connections.copy():
            connection.close_if_idle_since(loop.time() - self._idle_seconds)
        self._sweeper = loop.call_later(min(_SWEEP_SECONDS, self._idle_seconds), self._sweep)


class _Connection(asyncio.Protocol):
    """One client's connection: its requests are answered in order, one at a time."""

    def __init__(self, handler: Handler, connections: set[_Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._unfinished_bytes = 0
        self._is_within_message = False
        self._waiting: deque[Exchange] = deque()
        self._is_reading = True
        self._ends_with: HTTPStatus | None = None
        """Nothing more is read. Once all is answered, the connection ends: refused, unless this is OK."""
        self._drained: asyncio.Future[None] | None = None
        self._due: asyncio.TimerHandle | None = None
        """What writes an answer whose time has not come."""
        self.task: asyncio.Task[None] | None = None
        """What answers a request that takes time."""

    @property
    def is_answering(self) -> bool:
        """Whether a request has been taken up whose answer has not gone out."""
        return self.task is not None or self._due is not None

    @property
    def due_in_seconds(self) -> float:
        """How long an answer still waits for its time; 0 when none does."""
        return 0.0 if self._due is None else max(0.0, self._due.when() - self._loop.time())

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class is no relative of asyncio's
        self._touched = self._loop.time()
        self._connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self)
        self._waiting.clear()
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self.resume_writing()

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._ends_with is not None:
            return
        self._touched = self._loop.time()
        self._unfinished_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._ends_with = self._ends_with or HTTPStatus.BAD_REQUEST
        if self._unfinished_bytes > MAX_REQUEST_BYTES:
            self._ends_with = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        self._answer_waiting()

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = self._without_offer() + data[offer.args[0] :]
            else:
                return

    def _without_offer(self) -> bytes:
        """The head of a request that came with an offer to upgrade, such as Java's to go on in HTTP/2.

        The parser takes such a request for complete without its body, so it is parsed again as if nothing
        had been offered. What follows a CONNECT is no HTTP.
        """
        self._waiting.pop()
        if b"upgrade" not in self._headers:
            raise httptools.HttpParserError("a tunnel")
        verb = self._parser.get_method()
        self._parser = httptools.HttpRequestParser(self)
        self._ends_with = None
        lines = [b"%b: %b\r\n" % pair for pair in self._headers.items() if pair[0] not in _OFFERS]
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (verb, self._target, b"".join(lines))

    # What the parser tells

    def on_message_begin(self) -> None:
        self._is_within_message = True
        self._target = b""
        self._headers = {}
        self._body = []

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if b"expect" in self._headers:
            self.write(_CONTINUE)

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        parser = self._parser
        persistence = ""
        if not parser.should_keep_alive():
            persistence, self._ends_with = "Connection: close\r\n", HTTPStatus.OK
        elif parser.get_http_version() == "1.0":
            persistence = "Connection: keep-alive\r\n"
        self._unfinished_bytes = 0
        self._is_within_message = False
        self._waiting.append(
            Exchange(
                self,
                parser.get_method().decode(),
                self._target.decode("utf-8", errors="replace"),
                self._headers,
                b"".join(self._body),
                persistence,
            )
        )

    # Answering

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def write_after(self, seconds: float, data: bytes) -> None:
        if not self._transport.is_closing():
            self._due = self._loop.call_later(seconds, self._write_due, data)

    async def drain(self) -> None:
        """Wait until there is room for more.

        Raises:
            ConnectionResetError: the client has gone.
        """
        if self._drained is not None:
            await self._drained
        if self._transport.is_closing():
            raise ConnectionResetError("the client has gone")

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def reset(self) -> None:
        if not self._transport.is_closing():
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._transport.abort()

    def close_if_idle_since(self, moment: float) -> None:
        if not self.is_answering and self._touched <= moment:
            self._transport.close()

    def release_if_idle(self, take: Callable[[int], bool]) -> None:
        if (
            not self.is_answering
            and not self._waiting
            and not self._is_within_message
            and self._ends_with is None
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
            and take(self._transport.get_extra_info("socket").fileno())
        ):
            self._transport.abort()

    def _answer_waiting(self) -> None:
        while self._waiting and not self.is_answering and not self._transport.is_closing():
            try:
                pending = self._handler(self._waiting.popleft())
            except Exception:  # noqa: BLE001 -- a mistake of ours ends one connection, not the platform
                _log.exception("a request was not answered")
                self._waiting.clear()
                self._ends_with = HTTPStatus.INTERNAL_SERVER_ERROR
                break
            if pending is not None:
                self.task = self._loop.create_task(pending)
                self.task.add_done_callback(self._answered)
        if not self.is_answering and self._ends_with is not None:
            self._end(self._ends_with)
        elif self._is_reading == (len(self._waiting) > _MOST_WAITING) and not self._transport.is_closing():
            self._toggle_reading()

    def _write_due(self, data: bytes) -> None:
        self._due = None
        self._touched = self._loop.time()
        self.write(data)
        self._answer_waiting()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self.task = None
        self._touched = self._loop.time()
        if task.cancelled():
            self._transport.abort()
        elif error := task.exception():
            if not isinstance(error, ConnectionError):
                _log.error("a request was not answered", exc_info=error)
            self._transport.abort()
        else:
            self._answer_waiting()

    def _end(self, status: HTTPStatus) -> None:
        if status is not HTTPStatus.OK:
            head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            self.write(head.encode())
        self._transport.close()

    def _toggle_reading(self) -> None:
        self._is_reading = not self._is_reading
        if self._is_reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
