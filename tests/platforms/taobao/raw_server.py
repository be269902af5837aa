"""A server that answers with scripted bytes, as no HTTP library would send them."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.eventually import eventually

Step = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """Each request takes the next step of the script; an empty script answers `OK`.

    Attributes:
        requests: as they arrived.
        opened, closed: connections so far.
        most_open: connections at the same time.
    """

    port: int = 0
    script: deque[Step] = field(default_factory=deque)
    requests: list[bytes] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    most_open: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/x"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.most_open = max(self.most_open, self.opened - self.closed)
        self.writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1]) if length else 0)
                self.requests.append(head + body)
                step = self.script.popleft() if self.script else sends(OK)
                await step(writer)
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone: tests wait for `closed`
        finally:
            self.closed += 1
            self.writers.discard(writer)
            writer.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def raw_server(context: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    server = RawServer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await listening.wait_closed()
        for writer in server.writers:
            writer.transport.abort()
        await eventually(lambda: server.closed == server.opened)


def sends(answer: bytes, *, then_closes: bool = False, piece_bytes: int = 0) -> Step:
    """A step that sends these bytes, at once or in pieces of the given size."""

    async def step(writer: asyncio.StreamWriter) -> None:
        size = piece_bytes or len(answer) or 1
        for start in range(0, len(answer), size):
            writer.write(answer[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        if then_closes:
            writer.close()

    return step


def sends_and_resets(answer: bytes) -> Step:
    async def step(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.transport.abort()

    return step


def sends_and_drips(answer: bytes, drop: bytes) -> Step:
    async def step(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.02)

    return step


def hangs(arrived: asyncio.Event | None = None, after: bytes = b"") -> Step:
    """A step that sends a beginning, or nothing, and then stays silent."""

    async def step(writer: asyncio.StreamWriter) -> None:
        writer.write(after)
        await writer.drain()
        if arrived is not None:
            arrived.set()

    return step
