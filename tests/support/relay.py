"""An address of a server that a test opens later: until then nothing listens there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from topsync.local.ports import LOOPBACK, free_port

CHUNK_BYTES = 65536


class Relay:
    """A second address for a running server."""

    def __init__(self, server: str) -> None:
        self._host, _, self._port = server.rpartition(":")
        self._own_port = free_port()

    @property
    def address(self) -> str:
        """`host:port`, also while nothing listens."""
        return f"{LOOPBACK}:{self._own_port}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen, and pass all bytes on."""
        server = await asyncio.start_server(self._connect, LOOPBACK, self._own_port)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, int(self._port))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hand_on(reader, back))
            tasks.create_task(hand_on(there, writer))


async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
