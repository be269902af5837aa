"""The client's speed with a library's HTTP instead of our own: docs/decisions/http-transport.md.

The complete client of `benchmarks.gateway` fetches details over each transport in turn. On a shared machine,
compare the processor time: calls per second also depend on the other users.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp
import httpx
from yarl import URL

from benchmarks import gateway
from benchmarks.gateway import IN_FLIGHT, Gateway
from benchmarks.report import Report, Row
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.platforms.taobao.gateway.errors import TransportError
from topsync.platforms.taobao.gateway.transport import FORM_HEADERS, HttpTransport

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "decisions" / "http-transport.md"
ROUNDS: Final = 9
CALLS: Final = 1500
"""Calls of a contestant in a round."""

OWN: Final = "our own"
LOST_AT_MOST: Final = 0.2
"""A library that loses at most this share is taken."""

Exchange = tuple[int, Sequence[tuple[bytes, bytes]], bytes]
"""Status, headers and body as they were sent."""


class OverAiohttp(HttpTransport):
    """aiohttp's client, with everything that we do not need switched off."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._config.max_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self._url: tuple[object, URL] = None, URL()
        self._headers = dict(FORM_HEADERS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def _post(self, url: str, content: bytes, read_seconds: float) -> Exchange:
        if self._url[0] is not url:
            self._url = url, URL(str(url), encoded=True)
        bounds = aiohttp.ClientTimeout(total=read_seconds, connect=self._config.connect_seconds)
        async with self._session.post(
            self._url[1], data=content, headers=self._headers, allow_redirects=False, timeout=bounds
        ) as response:
            chunks: list[bytes] = []
            size = 0
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > self._config.max_answer_bytes:
                    raise TransportError("too large")
        return response.status, response.raw_headers, b"".join(chunks)


class OverHttpxAiohttp(OverAiohttp):
    """httpx's interface over the same session: `httpx-aiohttp`, which must be installed for it."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        library = importlib.import_module("httpx_aiohttp")
        self._over_aiohttp: httpx.AsyncBaseTransport = library.AiohttpTransport(client=self._session)
        return self

    async def _post(self, url: str, content: bytes, read_seconds: float) -> Exchange:
        times = {"timeout": {"pool": self._config.connect_seconds, "read": read_seconds}}
        # As content: the library would send a stream in chunks.
        request = httpx.Request("POST", url, headers=FORM_HEADERS, content=content, extensions=times)
        async with asyncio.timeout(read_seconds):  # the library has no time limit for the whole answer
            response = await self._over_aiohttp.handle_async_request(request)
            body = b"".join([chunk async for chunk in response.aiter_raw()])
            return response.status_code, response.headers.raw, body


@dataclass(frozen=True, slots=True)
class Round:
    """Calls per second, and microseconds of this process's processor time per call."""

    rate: float
    cpu: float


async def run() -> Report:
    """Start the servers, let the transports take turns with both numbers of calls in flight, and report."""
    transports: dict[str, type[HttpTransport]] = {OWN: HttpTransport, "aiohttp": OverAiohttp}
    if importlib.util.find_spec("httpx_aiohttp") is not None:
        transports["httpx-aiohttp"] = OverHttpxAiohttp
    async with ProcessGroup(run_folders.create()) as group:
        _, replayed, sizes = await gateway.start_gateways(group)
        rows = [row for in_flight in IN_FLIGHT for row in await _compare(replayed, in_flight, transports)]
    versions = ", ".join(
        f"{name} {metadata.version(name)}"
        for name in ("aiohttp", "httpx-aiohttp", "httpx", "httptools", "uvloop")
        if name != "httpx-aiohttp" or name in transports
    )
    setup = (
        f"{versions}. The complete client of the benchmark `gateway`, against the same server with the same "
        f"answers ({sizes}). {ROUNDS} rounds of {CALLS:,} calls over each, in turn. Figures are medians over "
        "the rounds, ratios are medians of the rounds' ratios, followed by their range. A library must reach "
        "the targets to be taken."
    )
    return Report("http_transport", setup, rows, PAGE)


async def _compare(
    replayed: Gateway, in_flight: int, transports: dict[str, type[HttpTransport]]
) -> list[Row]:
    rounds: dict[str, list[Round]] = {name: [] for name in transports}
    async with AsyncExitStack() as stack:
        fetches = {
            name: await stack.enter_async_context(gateway.complete_client(replayed, in_flight, transport))
            for name, transport in transports.items()
        }
        for fetch in fetches.values():
            await gateway.rate(fetch, in_flight, in_flight)  # opens the connections
        for _ in range(ROUNDS):
            for name, fetch in fetches.items():
                begun = time.process_time()
                rate = await gateway.rate(fetch, CALLS, in_flight)
                rounds[name].append(Round(rate, (time.process_time() - begun) / CALLS * 1e6))
    return [
        row for name in rounds for row in _rows(f"{in_flight} in flight", name, rounds[name], rounds[OWN])
    ]


def _rows(where: str, name: str, rounds: Sequence[Round], own: Sequence[Round]) -> list[Row]:
    absolute = [
        Row(
            what=f"{where}, {name}: processor time of a call",
            value=statistics.median(each.cpu for each in rounds),
            unit="µs",
        ),
        Row(what=f"{where}, {name}", value=statistics.median(each.rate for each in rounds), unit="details/s"),
    ]
    if rounds is own:
        return absolute
    costs = [theirs.cpu / ours.cpu for theirs, ours in zip(rounds, own, strict=True)]
    rates = [theirs.rate / ours.rate for theirs, ours in zip(rounds, own, strict=True)]
    return [
        *absolute,
        Row(
            what=f"{where}, {name} / {OWN}: processor time ({min(costs):.2f} to {max(costs):.2f})",
            value=statistics.median(costs),
            unit="",
            at_most=1 + LOST_AT_MOST,
            digits=2,
        ),
        Row(
            what=f"{where}, {name} / {OWN}: details a second ({min(rates):.2f} to {max(rates):.2f})",
            value=statistics.median(rates),
            unit="",
            at_least=1 - LOST_AT_MOST,
            digits=2,
        ),
    ]
