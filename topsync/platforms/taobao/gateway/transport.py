"""HTTP to the platform: one exchange, and all its bounds.

What carries the bytes is behind httpx's transport interface (`pool`, beside this module). httpx's client is
not used: it would add redirects, cookies, credentials and proxies, and none of these is wanted here.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from types import TracebackType
from typing import Final, Self

import httpx

from topsync.platforms.taobao.gateway import requests
from topsync.platforms.taobao.gateway.errors import TransportError
from topsync.platforms.taobao.gateway.pool import PooledTransport, PostAddress
from topsync.platforms.taobao.network import Network

_FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)

_USER_AGENT: Final = "topsync"
FORM_HEADERS: Final = httpx.Headers(
    {
        "User-Agent": _USER_AGENT,
        "Accept-Encoding": "gzip",
        "Content-Type": "application/x-www-form-urlencoded;charset=utf-8",
    }
)
_FILE_HEADERS: Final = httpx.Headers({"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"})
_GZIP: Final = zlib.MAX_WBITS | 16


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Bounds of the connections.

    Attributes:
        connect_seconds: until there is a connection, whether an idle or a new connection.
        max_connections: open at the same time; further calls wait for a connection, within `connect_seconds`.
        max_answer_bytes: size of an answer, before and after decompression; 100 complete trades take about
            1 MB.
        network: the way to the platform.
    """

    connect_seconds: float = 3.0
    max_connections: int = 64
    max_answer_bytes: int = 16 * 1024 * 1024
    network: Network = field(default_factory=Network)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer; the body may hold anything and stays out of the repr.

    Attributes:
        date: the `Date` header as the server sent it, None when absent.
        sent, received: the monotonic clock before and after the exchange, in seconds.
    """

    status: int
    content_type: str
    body: bytes = field(repr=False)
    date: bytes | None
    sent: float
    received: float

    @property
    def server_date(self) -> datetime | None:
        """The `Date` header as a UTC instant, None when absent or unreadable."""
        if self.date is None:
            return None
        try:
            return parsedate_to_datetime(self.date.decode("latin-1")).astimezone(UTC)
        except ValueError:
            return None


class HttpTransport:
    """A pool of connections; an asynchronous context manager.

    Certificates are verified. Proxies and credentials from the environment are ignored (the way is handed
    in), redirects are not followed, cookies are not kept.
    """

    def __init__(
        self, config: HttpConfig | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config or HttpConfig()
        self._monotonic = monotonic
        self._pool = PooledTransport(self._config.network, max_connections=self._config.max_connections)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    async def post_form(self, url: str, form: Mapping[str, str], *, read_seconds: float) -> HttpAnswer:
        """POST a form and read the whole answer within `read_seconds` after there is a connection.

        Raises:
            TransportError: no complete answer. The request may have been carried out.
        """
        sent = self._monotonic()
        try:
            status, raw_headers, body = await self._post(url, requests.encoded(form), read_seconds)
        except _FAILURES as error:
            raise _no_answer(error) from error
        headers = {name.lower(): value for name, value in raw_headers}
        return HttpAnswer(
            status=status,
            content_type=headers.get(b"content-type", b"").decode("latin-1"),
            body=_plain(body, headers.get(b"content-encoding"), self._config.max_answer_bytes),
            date=headers.get(b"date"),
            sent=sent,
            received=self._monotonic(),
        )

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, read_seconds: float, total_seconds: float
    ) -> AsyncIterator[httpx.Response]:
        """Open an answer whose body the caller reads. No wait for bytes is longer than `read_seconds`, and
        none lasts longer than until `total_seconds` after there is a connection.

        Raises:
            TransportError: also for failures while the caller reads inside the block. Texts name the kind
                of the failure only: addresses may hold one-time tokens.
        """
        bounds = self._bounds(read_seconds, total_seconds)
        try:
            request = httpx.Request(method, url, headers=_FILE_HEADERS, extensions=bounds)
            response = await self._pool.handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()
        except _FAILURES as error:
            raise _no_answer(error) from error

    async def _post(
        self, url: str, content: bytes, read_seconds: float
    ) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
        """Status, headers and body of the answer, as they were sent."""
        head, body = await self._pool.post(
            _address(url),
            content,
            connect_seconds=self._config.connect_seconds,
            answer_seconds=read_seconds,
            max_bytes=self._config.max_answer_bytes,
        )
        return head.status, head.headers, body

    def _bounds(self, read_seconds: float, total_seconds: float) -> dict[str, dict[str, float]]:
        return {
            "timeout": {
                "connect": self._config.connect_seconds,
                "read": read_seconds,
                "total": total_seconds,
            }
        }


class HttpUser:
    """A client that is open as long as its transport; an asynchronous context manager."""

    def __init__(self, http: HttpTransport) -> None:
        self._http = http

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)


def _no_answer(error: Exception) -> TransportError:
    # Only these have texts of our own, without addresses.
    why = str(error) if isinstance(error, httpx.ConnectError | httpx.ProxyError) else type(error).__name__
    return TransportError(f"no complete answer: {why}")


def _plain(body: bytes, encoding: bytes | None, limit: int) -> bytes:
    """The body without its compression, made in one step that never makes more than `limit` bytes.

    Raises:
        TransportError: the body is larger, is cut, or is compressed in a way that was not asked for.
    """
    encoding = (encoding or b"identity").strip().lower()
    if encoding == b"identity":
        return body
    if encoding != b"gzip":
        raise TransportError("the answer is compressed in a way that was not asked for")
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise TransportError("the answer is not the gzip that it says it is") from None
    if len(plain) > limit:
        raise TransportError(f"the answer is larger than {limit} bytes")
    if not unpacker.eof:
        raise TransportError("the compressed answer is cut")
    return plain


@lru_cache(maxsize=16)
def _address(url: str) -> PostAddress:
    """Raises httpx.InvalidURL or httpx.UnsupportedProtocol; every process posts to a few addresses only."""
    return PostAddress.of(httpx.URL(url), FORM_HEADERS.raw)
