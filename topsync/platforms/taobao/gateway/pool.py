"""httpx's transport interface over connections of our own.

Why our own: httpx's pool takes longer for each call the more calls are in flight, and aiohttp costs much more
processor time and gives late bytes to the next call (docs/decisions/http-transport.md).
Nothing here is automatic: no redirect is followed, no cookie is kept, no proxy or credential is taken from
the environment (the way is handed in), no request is sent twice, and bodies are passed on as the server sent
them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import httpx

from topsync.platforms.taobao import network as networks
from topsync.platforms.taobao.gateway.connection import Connection, Head, Origin
from topsync.platforms.taobao.gateway.errors import TransportError
from topsync.platforms.taobao.network import Network, ProxyRefusedError

KEEPALIVE_SECONDS: Final = 15.0
"""How long an idle connection is kept. Shorter than the server keeps it: a POST on a connection that the
server has just closed fails, and is tried again only after a wait.
"""

_CLOSED: Final = "the transport is closed: use it inside `async with`"
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class PostAddress:
    """Where to post, and what is the same in each post there."""

    origin: Origin
    head: bytes
    """Of a request, up to its `Content-Length`."""

    @classmethod
    def of(cls, url: httpx.URL, headers: Sequence[tuple[bytes, bytes]]) -> Self:
        """Raises httpx.UnsupportedProtocol for anything but http and https."""
        lines = [b"POST %s HTTP/1.1" % url.raw_path, b"Host: " + url.netloc]
        lines += [b"%s: %s" % header for header in headers]
        return cls(_origin(url), b"\r\n".join((*lines, b"Content-Length: ")))


class PooledTransport(httpx.AsyncBaseTransport):
    """At most `max_connections` connections, kept and used again; an asynchronous context manager.

    A request's `timeout` extension must have three bounds, in seconds. `connect`: until there is a
    connection, whether an idle or a new connection. `read`: each wait for bytes after that. `total`,
    which httpx does not know: all these waits together, so that an answer cannot drip for ever.
    """

    def __init__(self, network: Network, *, max_connections: int) -> None:
        self._network = network
        self._max_connections = max_connections
        self._slots = asyncio.Semaphore(max_connections)
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False
        self._all_ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        # Kept, because up to Python 3.11 each question for the running loop is a system call.
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        return self

    async def aclose(self) -> None:
        """End all connections, also those in use. Returns when all have ended."""
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        for connection in self._connections:
            connection.abort()
        while self._connections:
            self._all_ended.clear()
            await self._all_ended.wait()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request whose content is in memory; return when the head of the answer has arrived.

        The response holds its connection until it is closed. If it is closed before its end was read, its
        connection is ended too.

        Raises:
            RuntimeError: the transport is closed.
            httpx.TransportError: no answer; the request may have been carried out.
        """
        if not self._is_open:
            raise RuntimeError(_CLOSED)
        times = request.extensions["timeout"]
        connection = await self._acquire(_origin(request.url), times["connect"])
        try:
            head = await connection.send(
                _encoded(request), read_seconds=times["read"], total_seconds=times["total"]
            )
        except BaseException:
            self._release(connection)
            raise
        return httpx.Response(head.status, headers=head.headers, stream=_Body(connection, self._release))

    async def post(
        self,
        address: PostAddress,
        content: bytes,
        *,
        connect_seconds: float,
        answer_seconds: float,
        max_bytes: int,
    ) -> tuple[Head, bytes]:
        """Post, and read the whole answer, as the server sent it.

        httpx's objects for request, answer and body would cost as much as all the rest.

        Raises:
            RuntimeError, httpx.TransportError: see `handle_async_request`.
            TransportError: the body is larger than `max_bytes`.
        """
        if not self._is_open:
            raise RuntimeError(_CLOSED)
        connection = await self._acquire(address.origin, connect_seconds)
        try:
            head = await connection.send(
                b"%s%d\r\n\r\n%s" % (address.head, len(content), content),
                read_seconds=answer_seconds,
                total_seconds=answer_seconds,
            )
            chunks, size_bytes = [], 0
            while chunk := await connection.read():
                chunks.append(chunk)
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise TransportError(f"the answer is larger than {max_bytes} bytes")
        finally:
            self._release(connection)
        return head, b"".join(chunks)

    async def _acquire(self, origin: Origin, connect_seconds: float) -> Connection:
        if not self._slots.locked() and (idle := self._take_idle(origin)) is not None:
            await self._slots.acquire()  # a slot is free: this does not wait
            return idle
        try:
            async with asyncio.timeout(connect_seconds):
                await self._slots.acquire()
                try:
                    return self._take_idle(origin) or await self._connect(origin)
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection in time") from None

    async def _connect(self, origin: Origin) -> Connection:
        scheme, host, port = origin
        if len(self._connections) >= self._max_connections and self._idle:
            self._idle.pop(0).abort()
        try:
            _, connection = await networks.connect(
                self._network,
                lambda: Connection(origin, self._forget),
                host,
                port,
                encrypts=scheme == "https",
            )
        except TimeoutError:
            raise
        except ProxyRefusedError as error:
            raise httpx.ProxyError(str(error)) from error
        except ssl.SSLCertVerificationError as error:
            raise httpx.ConnectError(f"its certificate is refused: {error.verify_message}") from error
        except OSError as error:
            raise httpx.ConnectError(type(error).__name__) from error
        self._connections.add(connection)
        return connection

    def _take_idle(self, origin: Origin) -> Connection | None:
        """The connection used last. So those that are not needed get old, and are dropped."""
        self._drop_old()
        for index in reversed(range(len(self._idle))):
            # An ended connection stays in the list until `connection_lost`, a moment later.
            if self._idle[index].origin == origin and self._idle[index].is_reusable:
                return self._idle.pop(index)
        return None

    def _release(self, connection: Connection) -> None:
        self._slots.release()
        if not self._is_open or not connection.is_reusable:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._timer is None:
            self._set_timer()

    def _set_timer(self) -> None:
        self._timer = self._loop.call_at(self._idle[0].idle_since + KEEPALIVE_SECONDS, self._tidy)

    def _tidy(self) -> None:
        self._timer = None
        self._drop_old()
        if self._idle:
            self._set_timer()

    def _drop_old(self) -> None:
        oldest = self._loop.time() - KEEPALIVE_SECONDS
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.pop(0).abort()

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._connections:
            self._all_ended.set()


class _Body(httpx.AsyncByteStream):
    """The body of an answer."""

    def __init__(self, connection: Connection, release: Callable[[Connection], None]) -> None:
        self._connection = connection
        self._release = release
        self._is_closed = False

    def __aiter__(self) -> Self:
        # Not a generator: the event loop keeps a list of those, which costs more than reading does.
        return self

    async def __anext__(self) -> bytes:
        if self._is_closed or not (chunk := await self._connection.read()):
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._release(self._connection)


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol("only http and https are spoken")
    return url.scheme, url.host, url.port or _PORTS[url.scheme]


def _encoded(request: httpx.Request) -> bytes:
    """Head and content. `Host` and `Content-Length` are added where the request lacks them."""
    assert isinstance(request.stream, httpx.SyncByteStream)
    content = b"".join(request.stream)
    headers = request.headers.raw
    given = {name.lower() for name, _ in headers}
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    if b"host" not in given:
        lines.append(b"Host: " + request.url.netloc)
    if b"content-length" not in given and content:
        lines.append(b"Content-Length: %d" % len(content))
    lines += [b"%s: %s" % header for header in headers]
    return b"\r\n".join((*lines, b"", content))
