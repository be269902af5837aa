"""A gateway that answers with recorded bodies: `python -m benchmarks.replay RECORDED READY_FILE`.

It is as fast as HTTP/1.1 can be in Python, so that a benchmark measures the client and not the server: one
asyncio protocol on uvloop, bodies compressed beforehand. It speaks real HTTP on kept connections and answers
each call with the trade that was asked for, but checks neither signature nor session nor timestamp.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Final, cast
from zlib import DEFLATED, MAX_WBITS, compressobj

import orjson
import uvloop

from schemas import platform_time

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TID: Final = re.compile(rb"(?:^|&)tid=(\d+)")
_COMPRESSION_LEVEL: Final = 1
"""The usual level of a server that compresses each answer; the simulator uses it too."""


class Connection(asyncio.Protocol):
    """A kept connection. Requests come in turn, each after the answer to the last request.

    Args:
        detail: the end of the answer about a `tid`, after the line with the date.
        seconds: how long the answer with a trade takes.
    """

    def __init__(self, detail: Callable[[bytes], bytes], seconds: float = 0.0) -> None:
        self._detail = detail
        self._seconds = seconds
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is no subclass

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head, found, body = received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if found else None
        if length is None or len(body) < int(length[1]):
            self._received = received
            return
        self._received = b""
        date = format_datetime(datetime.now(UTC), usegmt=True).encode()
        if tid := _TID.search(body):
            # All contestants ask for gzip: then the platform answers with it.
            assert b"gzip" in head
            answer = b"HTTP/1.1 200 OK\r\nDate: " + date + self._detail(tid[1])
            if self._seconds:
                asyncio.get_running_loop().call_later(self._seconds, self._transport.write, answer)
                return
        else:
            now = platform_time.format(datetime.now(UTC))
            rest = ending(orjson.dumps({"time_get_response": {"time": now}}))
            answer = b"HTTP/1.1 200 OK\r\nDate: " + date + rest
        self._transport.write(answer)


def compressed_ending(body: bytes) -> bytes:
    """The end of an answer with a body in gzip."""
    gzip = compressobj(_COMPRESSION_LEVEL, DEFLATED, MAX_WBITS | 16)
    return ending(gzip.compress(body) + gzip.flush(), b"Content-Encoding: gzip")


def ending(body: bytes, *headers: bytes) -> bytes:
    """The end of an answer, after the line with the date."""
    lines = (
        b"",
        b"Content-Type: application/json;charset=UTF-8",
        b"Content-Length: %d" % len(body),
        *headers,
    )
    return b"\r\n".join((*lines, b"", body))


async def _serve(bodies: Mapping[str, str], ready_file: Path) -> None:
    """Serve until SIGTERM."""
    answers = {tid.encode(): compressed_ending(body.encode()) for tid, body in bodies.items()}
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(lambda: Connection(answers.__getitem__), "127.0.0.1", 0, backlog=1024)
    part = ready_file.with_suffix(".part")
    part.write_text(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/router/rest")
    part.replace(ready_file)
    async with server:
        await stopped.wait()


if __name__ == "__main__":
    uvloop.run(_serve(orjson.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])))
