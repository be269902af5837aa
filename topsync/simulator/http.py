"""HTTP/1.1 for the gateway: aiohttp's server, with ways to break an answer that no server offers.

Why this server: docs/decisions/simulator-server.md.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeAlias

from aiohttp import hdrs, web

MAX_REQUEST_BYTES: Final = 1 << 20
"""The body of a request; a longer one is refused with 413."""

IDLE_SECONDS: Final = 75.0
"""A connection without a complete request for so long is closed, unless it waits for an answer."""

_MAX_LINE_BYTES = 1 << 16
"""Limit of the request line and of each header: some clients put all parameters into the address."""
_LINGER_SECONDS = 1.0
"""How long to read and drop the rest of a refused request, so that its client sees the refusal."""
_NO_LINGER = struct.pack("ii", 1, 0)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

RequestHandler: TypeAlias = Callable[[web.BaseRequest, bytes], Awaitable[web.StreamResponse]]
"""Answers a request and its body."""


class BrokenAnswer(web.StreamResponse):
    """Ends TCP instead of an answer."""

    def __init__(self, end: Callable[[web.BaseRequest], None]) -> None:
        """`end` is `cut` or `reset`."""
        super().__init__()
        self._end = end

    async def prepare(self, request: web.BaseRequest) -> None:
        """End TCP.

        Raises:
            ConnectionResetError: always; the server then forgets the connection.
        """
        self._end(request)
        raise ConnectionResetError("this answer never comes")


def cut(request: web.BaseRequest) -> None:
    """End TCP after the bytes that were written, however much of the body is missing."""
    if request.transport is not None:
        request.transport.close()


def reset(request: web.BaseRequest) -> None:
    """End TCP so that the client sees a reset, not an end."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()


def server(handler: RequestHandler, *, idle_seconds: float = IDLE_SECONDS) -> web.Server:
    """A server that gives every request to `handler`; call it to get the protocol of a new connection."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == hdrs.METH_CONNECT:
            refusal = web.Response(status=HTTPStatus.BAD_REQUEST)
            refusal.force_close()
            return refusal
        if request.transport is not None and hdrs.EXPECT in request.headers:
            request.transport.write(_CONTINUE)
        try:
            body = await _body_of(request, idle_seconds)
        except TimeoutError:
            return BrokenAnswer(cut)
        return await handler(request, body)

    return web.Server(
        answer,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=idle_seconds,
        lingering_time=_LINGER_SECONDS,
        max_line_size=_MAX_LINE_BYTES,
        max_field_size=_MAX_LINE_BYTES,
    )


async def _body_of(request: web.BaseRequest, within_seconds: float) -> bytes:
    """The body of a request.

    Raises:
        TimeoutError: it does not come in time.
        HTTPRequestEntityTooLarge: it is longer than MAX_REQUEST_BYTES.
    """
    if request.content.is_eof():  # nearly always; awaiting it would cost as much as parsing it
        return request.content.read_nowait()
    async with asyncio.timeout(within_seconds):
        return await request.read()


async def adopt(protocols: web.Server, connection: socket.socket) -> None:
    """Serve a connection that has been accepted elsewhere."""
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().connect_accepted_socket(protocols, connection)
    except OSError:  # the client has gone meanwhile
        connection.close()
