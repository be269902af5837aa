"""The server's side of WebSocket as the platform's servers speak it: bytes in, events out, no I/O.

Not a general implementation: it is as strict and as lenient as the servers in the field
(docs/platform/channel.md 1.2 to 1.4, 5.4). It answers no Ping, joins no fragments and accepts no extension.
It tolerates two things that RFC 6455 forbids and the official client does: a Close without a mask, and a
Close of more than 125 bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from http import HTTPStatus
from typing import Final, NamedTuple

MAX_HEAD_BYTES: Final = 16 * 1024
"""A longer request head is refused; the longest in the field has a tenth of it."""

_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = "13"

_END_OF_HEAD: Final = b"\r\n\r\n"
_FINAL: Final = 0x80
_RESERVED_BITS: Final = 0x70
_MASKED: Final = 0x80
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_MAX_CONTROL_BYTES: Final = 125
_MAX_REASON_BYTES: Final = 123
"""A Close has 125 bytes; its code takes two of them."""


class Opcode(IntEnum):
    """What a frame is (RFC 6455 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_OPCODES: Final = {int(opcode): opcode for opcode in Opcode}


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The client may begin; `response` is to be written."""

    response: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """The request is no upgrade; `response` is to be written, then TCP ends."""

    status: HTTPStatus
    response: bytes


class Message(NamedTuple):
    """A frame's payload: a whole binary message, or a frame that is only counted."""

    opcode: Opcode
    payload: bytes

    def __repr__(self) -> str:
        return f"Message({self.opcode.name}, {len(self.payload)} bytes)"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A fragment, which servers in the field drop without an answer (docs/platform/channel.md 1.4)."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The client's Close. Its text is not kept: the official client puts whole messages into it."""

    code: int | None


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule after which TCP ends at once, without a Close. The text never quotes the bytes."""

    reason: str


WebSocketEvent = Upgraded | Rejected | Message | Skipped | Closed | Violation


class _Phase(Enum):
    HEAD = auto()
    FRAMES = auto()
    OVER = auto()


class _ViolationError(Exception):
    """The bytes break a rule; the text says which."""


class WebSocketReader:
    """One connection's incoming bytes. Keeps at most a request's head or a frame, beside what it is fed."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._phase = _Phase.HEAD
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that are kept until more come."""
        return len(self._buffer)

    @property
    def is_open(self) -> bool:
        """Whether the upgrade is done and the end has not come."""
        return self._phase is _Phase.FRAMES

    def feed(self, data: bytes) -> list[WebSocketEvent]:
        """The events that these bytes complete. After a rejection, a Close or a violation there are none.

        Never raises, whatever comes.
        """
        if self._phase is _Phase.OVER:
            return []
        self._buffer += data
        return list(self._events())

    def _events(self) -> Iterator[WebSocketEvent]:
        if self._phase is _Phase.HEAD and (answer := self._answer()) is not None:
            yield answer
        if self.is_open:
            yield from self._frames()

    def _answer(self) -> Upgraded | Rejected | None:
        end = self._buffer.find(_END_OF_HEAD, 0, MAX_HEAD_BYTES)
        if end < 0 and len(self._buffer) < MAX_HEAD_BYTES:
            return None
        if end < 0:
            answer: Upgraded | Rejected = _rejected(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            answer = _answer_to(self._buffer[:end].decode("latin-1"))
        if isinstance(answer, Rejected):
            self._end()
        else:
            self._phase = _Phase.FRAMES
            del self._buffer[: end + len(_END_OF_HEAD)]
        return answer

    def _frames(self) -> Iterator[WebSocketEvent]:
        position = 0
        try:
            while (taken := self._frame(position)) is not None:
                event, position = taken
                yield event
                if isinstance(event, Closed):
                    self._end()
                    return
        except _ViolationError as violation:
            self._end()
            yield Violation(str(violation))
            return
        del self._buffer[:position]

    def _end(self) -> None:
        self._phase = _Phase.OVER
        self._buffer.clear()

    def _frame(self, position: int) -> tuple[WebSocketEvent, int] | None:
        """The frame that begins there, and its end; None when a part of it is still missing."""
        buffer = self._buffer
        if len(buffer) < position + 2:
            return None
        first, second = buffer[position], buffer[position + 1]
        opcode, final = _kind(first)
        length, start = second & ~_MASKED, position + 2
        if length >= _LENGTH_16:
            size = 2 if length == _LENGTH_16 else 8
            if len(buffer) < start + size:
                return None
            length, start = int.from_bytes(buffer[start : start + size], "big"), start + size
        self._check(opcode, length, is_masked=second >= _MASKED)
        if second >= _MASKED:
            start += 4
        end = start + length
        if len(buffer) < end:
            return None
        payload = bytes(buffer[start:end])
        if second >= _MASKED:
            payload = unmasked(payload, bytes(buffer[start - 4 : start]))
        return _event(opcode, payload, final=final), end

    def _check(self, opcode: Opcode, length: int, *, is_masked: bool) -> None:
        if length > self._max_frame_bytes:
            raise _ViolationError("a frame is longer than is accepted")
        if opcode is Opcode.CLOSE:
            return
        if not is_masked:
            raise _ViolationError("a frame is not masked")
        if opcode >= Opcode.CLOSE and length > _MAX_CONTROL_BYTES:
            raise _ViolationError("a control frame is longer than 125 bytes")


def _kind(first: int) -> tuple[Opcode, bool]:
    opcode = _OPCODES.get(first & 0x0F)
    if first & _RESERVED_BITS or opcode is None:
        raise _ViolationError("a frame has reserved bits or an unknown opcode")
    if opcode >= Opcode.CLOSE and first < _FINAL:
        raise _ViolationError("a control frame is fragmented")
    return opcode, first >= _FINAL


def _event(opcode: Opcode, payload: bytes, *, final: bool) -> WebSocketEvent:
    if opcode is Opcode.CLOSE:
        return Closed(int.from_bytes(payload[:2], "big") if len(payload) > 1 else None)
    if opcode is Opcode.CONTINUATION or not final:
        return Skipped()
    return Message(opcode, payload)


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """The payload without its mask; the same function also adds the mask."""
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(length, "little")


def frame(opcode: Opcode, payload: bytes, *, final: bool = True) -> bytes:
    """A server's frame, not masked."""
    return header(opcode, len(payload), final=final) + payload


def header(opcode: Opcode, length: int, *, final: bool = True) -> bytes:
    """The header of a frame whose payload has that many bytes."""
    first = opcode | (_FINAL if final else 0)
    if length < _LENGTH_16:
        return bytes((first, length))
    if length < 1 << 16:
        return bytes((first, _LENGTH_16)) + length.to_bytes(2, "big")
    return bytes((first, _LENGTH_64)) + length.to_bytes(8, "big")


def close(code: int, reason: str) -> bytes:
    """A server's Close; a reason that is too long is cut off."""
    text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
    return frame(Opcode.CLOSE, code.to_bytes(2, "big") + text)


def _answer_to(head: str) -> Upgraded | Rejected:
    """The answer to a request; it must have what the servers in the field need."""
    request, *lines = head.split("\r\n")
    method, _, rest = request.partition(" ")
    if not rest.rpartition(" ")[2].startswith("HTTP/1."):
        return _rejected(HTTPStatus.BAD_REQUEST)
    if method != "GET":
        return _rejected(HTTPStatus.FORBIDDEN)
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    key = headers.get("sec-websocket-key", "")
    if not key or headers.get("upgrade", "").lower() != "websocket":
        return _rejected(HTTPStatus.BAD_REQUEST)
    if headers.get("sec-websocket-version") != _VERSION:
        return _rejected(HTTPStatus.UPGRADE_REQUIRED, {"Sec-WebSocket-Version": _VERSION})
    # No extension, no subprotocol, and only Upgrade in Connection: the official client fails on
    # anything more (docs/platform/channel.md 1.3).
    answer = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": _accept(key)}
    return Upgraded(_head(HTTPStatus.SWITCHING_PROTOCOLS, answer))


def _accept(key: str) -> str:
    digest = hashlib.sha1((key + _GUID).encode("latin-1"), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _rejected(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Rejected:
    body = f"{status.value} {status.phrase}".encode()
    more = {"Content-Type": "text/plain", "Content-Length": str(len(body)), "Connection": "close"}
    return Rejected(status, _head(status, {**(headers or {}), **more}) + body)


def _head(status: HTTPStatus, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
