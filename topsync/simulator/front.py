# ruff: noqa: D102 -- the methods of a protocol and the parser's callbacks are described where those are
"""A worker's end of a connection: one whole, plain request at a time, or it is handed over as it is.

Handed over means: with every byte that was received and not answered, so that whoever takes it reads the
request as if it had come there. That is why nothing is sent before the request is complete, and why a
request waits while an earlier answer is not sent.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, cast

import httptools

from topsync.simulator.http import Exchange

_KEPT_BYTES = 1 << 16
"""A request that is longer goes where there is a limit for it."""


class Office(Protocol):
    """What answers requests."""

    fronts: set[Front]
    """The connections that are open here."""

    def answer(self, exchange: Exchange) -> bool:
        """Answer a request; False, with nothing done, when it is to be handed over."""

    def hand_over(self, transport: asyncio.Transport, received: bytes) -> None:
        """Take a connection away."""


class Front(asyncio.Protocol):
    """See the module."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._received = b""
        self._late = b""
        self._due: asyncio.TimerHandle | None = None
        """What writes an answer whose time has not come."""
        self._messages = 0
        """Those that ended in what has been received."""
        self._is_whole = False
        """Whether the last one that began has ended."""
        self._is_odd = False
        """Whether something else than a plain request that keeps the connection has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class is no relative of asyncio's
        self._touched = time.monotonic()
        self._office.fronts.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._office.fronts.discard(self)
        if self._due is not None:
            self._due.cancel()

    def data_received(self, data: bytes) -> None:
        # An answer that is not yet sent would be lost with the transport, were this request handed over.
        if self._due is not None:
            self._keep(data)
            return
        if self._transport.get_write_buffer_size():
            self._keep(data)
            self._transport.set_write_buffer_limits(high=0)
            return
        self._touched = time.monotonic()
        self._received = self._received + data if self._received else data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._is_odd = True
        if not (self._messages or self._is_odd) and len(self._received) <= _KEPT_BYTES:
            return
        if self._messages == 1 and self._is_whole and not self._is_odd and self._is_answered():
            self._received, self._messages = b"", 0
        else:
            self._office.hand_over(self._transport, self._received)

    def resume_writing(self) -> None:
        late, self._late = self._late, b""
        if late:
            self._transport.set_write_buffer_limits()
            self.data_received(late)
            if not self._late and not self._transport.is_closing():
                self._transport.resume_reading()

    def _keep(self, data: bytes) -> None:
        self._transport.pause_reading()
        self._late = data

    def on_message_begin(self) -> None:
        self._is_whole = False
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if b"expect" in self._headers:
            self._is_odd = True

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        parser = self._parser
        self._is_whole = True
        self._is_odd |= not parser.should_keep_alive() or parser.get_http_version() != "1.1"
        self._verb = parser.get_method().decode()
        self._messages += 1

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def write_after(self, seconds: float, data: bytes) -> None:
        self._due = asyncio.get_running_loop().call_later(seconds, self._write_due, data)

    def _write_due(self, data: bytes) -> None:
        self._due = None
        self._touched = time.monotonic()
        self._transport.write(data)
        self.resume_writing()

    async def drain(self) -> None:
        """Nothing long is written here."""

    def close(self) -> None:
        self._transport.close()

    def reset(self) -> None:
        self._transport.abort()

    def close_if_idle_since(self, moment: float) -> None:
        """Close it if nothing came since a moment of the monotonic clock."""
        if self._touched <= moment:
            self._transport.close()

    def _is_answered(self) -> bool:
        target, body = self._target.decode("utf-8", errors="replace"), b"".join(self._body)
        return self._office.answer(Exchange(self, self._verb, target, self._headers, body, ""))
