"""HTTP load that takes little time itself: encoded requests over kept connections, one at a time on each."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

ANSWER_SECONDS: Final = 600.0
"""Time limit of a whole run."""

_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length: "
_GZIP: Final = b"\r\ncontent-encoding: gzip"
_GZIP_WINDOW_BITS: Final = 31


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go."""

    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Target:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        return cls(parts.hostname, parts.port, parts.path)

    def post(self, form: bytes, *, accept: str) -> bytes:
        """A POST with the headers that topsync's own client sends."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAccept: */*\r\n"
            f"Accept-Encoding: {accept}\r\nConnection: keep-alive\r\nUser-Agent: topsync\r\n"
            "Content-Type: application/x-www-form-urlencoded;charset=utf-8\r\n"
            f"Content-Length: {len(form)}\r\n\r\n"
        )
        return head.encode() + form


@dataclass(frozen=True, slots=True)
class Outcome:
    """The measurements of a run."""

    calls: int
    seconds: float
    own_seconds: float
    """Processor time of this process: the load itself must not be the slow part."""

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds

    @property
    def own_share(self) -> float:
        """Share of a core."""
        return self.own_seconds / self.seconds


Check = Callable[[int, bytes], None]
"""Takes the position of a request and the body of its answer; raises AssertionError if the body is wrong."""


async def send_all(target: Target, requests: Sequence[bytes], check: Check, *, connections: int) -> Outcome:
    """Send each request once and check every answer.

    Raises:
        AssertionError: an answer has another status than 200, is not complete, or fails the check.
        TimeoutError: not everything was answered in time.
    """
    loop = asyncio.get_running_loop()
    waiting = iter(enumerate(requests))
    lines = [
        (await loop.create_connection(lambda: _Line(waiting, check), target.host, target.port))[1]
        for _ in range(connections)
    ]
    began, own = time.perf_counter(), time.process_time()
    try:
        for line in lines:
            line.send_next()
        async with asyncio.timeout(ANSWER_SECONDS):
            await asyncio.gather(*(line.done for line in lines))
        seconds, own_seconds = time.perf_counter() - began, time.process_time() - own
    finally:
        for line in lines:
            line.close()
    return Outcome(len(requests), seconds, own_seconds)


class _Line(asyncio.Protocol):
    """A connection, with at most one request under way."""

    def __init__(self, waiting: Iterator[tuple[int, bytes]], check: Check) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = waiting
        self._check = check
        self._transport: asyncio.Transport | None = None
        self._position = 0
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(AssertionError(f"the server ended the connection: {error}"))

    def send_next(self) -> None:
        assert self._transport is not None
        following = next(self._waiting, None)
        if following is None:
            self.done.set_result(None)
            return
        self._position, request = following
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            body = _body(self._received)
            if body is None:
                return
            self._check(self._position, body)
        except Exception as error:  # noqa: BLE001 -- raised again for the caller that waits for the run
            self.done.set_exception(error)
            self.close()
            return
        self._received.clear()
        self.send_next()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _body(received: bytearray) -> bytes | None:
    """The body of a complete answer with status 200, decompressed; None while it is not complete."""
    end = received.find(_END_OF_HEAD)
    if end < 0:
        return None
    head = bytes(received[:end]).lower() + b"\r\n"
    assert head.startswith(b"http/1.1 200 "), head
    at = head.index(_LENGTH) + len(_LENGTH)
    length = int(head[at : head.index(b"\r", at)])
    begin = end + len(_END_OF_HEAD)
    if len(received) < begin + length:
        return None
    assert len(received) == begin + length, "more than one answer"
    body = bytes(received[begin:])
    return zlib.decompress(body, _GZIP_WINDOW_BITS) if _GZIP in head else body
