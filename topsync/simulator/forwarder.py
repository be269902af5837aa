"""How a worker forwards a request to the platform's main process, over its Unix socket."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from aiohttp import hdrs, web

from topsync.simulator import http
from topsync.simulator.http import BrokenAnswer

_NOT_FORWARDED = frozenset(
    {"connection", "keep-alive", "upgrade", "expect", "content-length", "transfer-encoding"}
)
"""Headers that concern the client's own connection, or follow from the body."""


class Forwarder:
    """Forwards requests to the platform's main process, over its Unix socket."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        """`client` comes from `client_of`, with the socket of that process."""
        self._client = client

    async def handle(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        """Give the answer of the platform's main process, or break off where it breaks off."""
        headers = [
            (name, value) for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED
        ]
        try:
            async with self._client.request(
                request.method,
                request.url,  # its host does not matter: the client connects to the socket only
                headers=headers,
                data=body or None,
                allow_redirects=False,
            ) as answer:
                return await _passed_on(request, answer)
        except aiohttp.ClientConnectionError:
            return BrokenAnswer(http.reset)


def client_of(own_socket: Path) -> aiohttp.ClientSession:
    """A client that sends requests to the platform's main process unchanged, and only once."""
    return aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(own_socket), limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE),
        middlewares=(_without_retry,),
    )


async def _without_retry(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a GET after a reset: a fault must strike a call once."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(f"{error}") from error


async def _passed_on(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    await response.prepare(request)
    try:
        async for block in answer.content.iter_any():
            await response.write(block)
    except aiohttp.ClientPayloadError:
        http.cut(request)
    return response
