"""A company's proxy: it passes bytes on when asked by CONNECT, as RFC 9110 9.3.6 says."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.authorities import Pair
from tests.support.relay import hand_on
from topsync.local.ports import LOOPBACK

USER, PASSWORD = "topsync", "proxy-pass-0001"


@dataclass(slots=True)
class ConnectProxy:
    """A proxy that knows where hosts are: `places` has a port of this machine for each `host:port`."""

    places: Mapping[str, int]
    needs_password: bool = True
    asked: list[str] = field(default_factory=list)
    """What it was asked to connect to, in order."""
    port: int = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, LOOPBACK)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, place, _ = head[0].split(" ")
        assert method == "CONNECT"
        self.asked.append(place)
        allowed = f"Proxy-Authorization: Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        if self.needs_password and allowed not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        if place not in self.places:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        there, back = await asyncio.open_connection(LOOPBACK, self.places[place])
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: a proxy\r\n\r\n")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hand_on(reader, back))
            tasks.create_task(hand_on(there, writer))


@asynccontextmanager
async def encrypted(port: int, pair: Pair) -> AsyncIterator[int]:
    """Encrypts for a server on this machine; yields another port of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(LOOPBACK, port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hand_on(reader, back))
            tasks.create_task(hand_on(there, writer))

    server = await asyncio.start_server(serve, LOOPBACK, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
