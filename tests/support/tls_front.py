"""A front that encrypts for a PostgreSQL that does not: the build of the embedded server cannot.

It speaks the beginning of PostgreSQL's protocol, in which the client asks for encryption, and passes all else
on: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.authorities import Pair
from tests.support.relay import hand_on
from topsync.local.ports import LOOPBACK

ASKED_BYTES = 8
SSL_REQUEST = struct.pack("!ii", ASKED_BYTES, 80877103)
YES = b"S"


class TlsFront:
    """The front of a server on this machine; `encrypted` counts the connections that asked for encryption."""

    def __init__(self, server_port: int, pair: Pair) -> None:
        self._server_port = server_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self.encrypted = 0
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen on all addresses of this machine, on a port that is known from now on."""
        server = await asyncio.start_server(self._connect, "0.0.0.0")
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readexactly(ASKED_BYTES)
        there, back = await asyncio.open_connection(LOOPBACK, self._server_port)
        if asked == SSL_REQUEST:
            writer.write(YES)
            try:
                await writer.start_tls(self._context)
            except (ssl.SSLError, ConnectionError):
                back.close()
                return  # the client has refused the certificate
            self.encrypted += 1
        else:
            back.write(asked)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hand_on(reader, back))
            tasks.create_task(hand_on(there, writer))
