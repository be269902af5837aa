"""HTTP to the platform, behind one seam: httpx over aiohttp's connections.

httpx's own transport is slow with many calls in flight (reference/kafka-local.md, last line), so aiohttp
carries the bytes. Everything that is bounded is bounded here: connections, times, answer sizes.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Final, Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from topsync.top.errors import TransportError

KEEPALIVE_SECONDS: Final = 15.0
"""Idle connections are dropped before the other side does: a POST on a connection that it has just closed
fails, and is tried again only after a wait.
"""

_FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, aiohttp.ClientError, TimeoutError)
"""What the two libraries raise; httpx-aiohttp leaves some of aiohttp's own unmapped.

Not OSError: it would also catch a full disk while a download is written.
"""

_FORM_TYPE: Final = "application/x-www-form-urlencoded;charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Bounds of the connections.

    Attributes:
        connect_seconds: for a free connection, and again for opening one.
        max_connections: open at the same time.
        max_answer_bytes: size of an answer after decompression; 100 complete trades take about 1 MB.
        ca_file: certificate authorities to trust instead of the bundled ones.
    """

    connect_seconds: float = 3.0
    max_connections: int = 64
    max_answer_bytes: int = 16 * 1024 * 1024
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer; the body may hold anything and stays out of the repr.

    Attributes:
        server_date: the `Date` header as a UTC instant, None when absent or unreadable.
        sent, received: moments of the monotonic clock, in seconds, around the exchange.
    """

    status: int
    content_type: str
    body: bytes = field(repr=False)
    server_date: datetime | None
    sent: float
    received: float


class HttpTransport:
    """A pool of connections; an asynchronous context manager.

    Certificates are verified. Proxies and credentials from the environment are ignored, redirects are
    not followed, cookies are not kept.
    """

    def __init__(
        self, config: HttpConfig | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config or HttpConfig()
        self._monotonic = monotonic
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        self._client = _open(self._config)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def post_form(self, url: str, form: Mapping[str, str], *, read_seconds: float) -> HttpAnswer:
        """POST a form and read the whole answer within `read_seconds` after a connection is there.

        Raises:
            TransportError: no complete answer. The request may have been carried out.
        """
        sent = self._monotonic()
        async with self.stream(
            "POST", url, form=form, read_seconds=read_seconds, accept_encoding="gzip"
        ) as response:
            body = await self._read(response)
        return HttpAnswer(
            status=response.status_code,
            content_type=response.headers.get("content-type", ""),
            body=body,
            server_date=_date(response.headers.get("date")),
            sent=sent,
            received=self._monotonic(),
        )

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        read_seconds: float,
        total_seconds: float | None = None,
        accept_encoding: str = "identity",
    ) -> AsyncIterator[httpx.Response]:
        """Open an answer whose body the caller reads; `total_seconds` bounds the whole, reading included.

        Raises:
            TransportError: also for failures while the caller reads inside the block. Texts name the kind
                of the failure only: addresses may hold one-time tokens.
        """
        if self._client is None:
            raise RuntimeError("the transport is closed: use it inside `async with`")
        connect = self._config.connect_seconds
        deadline = 2 * connect + read_seconds if total_seconds is None else total_seconds
        headers = {"Accept-Encoding": accept_encoding} | ({"Content-Type": _FORM_TYPE} if form else {})
        try:
            # The per-read timeout alone would let an answer drip for ever.
            async with (
                asyncio.timeout(deadline),
                self._client.stream(
                    method,
                    url,
                    data=form,
                    headers=headers,
                    timeout=httpx.Timeout(read_seconds, connect=connect, pool=connect),
                ) as response,
            ):
                yield response
        except _FAILURES as error:
            raise TransportError(f"no complete answer: {type(error).__name__}") from error

    async def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self._config.max_answer_bytes:
                raise TransportError(f"the answer is larger than {self._config.max_answer_bytes} bytes")
        return bytes(body)


def _open(config: HttpConfig) -> httpx.AsyncClient:
    context: ssl.SSLContext = (
        ssl.create_default_context(cafile=config.ca_file)
        if config.ca_file
        else httpx.create_ssl_context(trust_env=False)
    )

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=config.max_connections, keepalive_timeout=KEEPALIVE_SECONDS, ssl=context
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    return httpx.AsyncClient(
        transport=AiohttpTransport(verify=context, trust_env=False, client=session),
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": "topsync"},
    )


def _date(header: str | None) -> datetime | None:
    if header is None:
        return None
    try:
        return parsedate_to_datetime(header).astimezone(UTC)
    except ValueError:
        return None
