"""The message channel's frames: typed headers in one WebSocket binary message.

Source: docs/platform/channel.md 2; its vectors are tests. `encode` and `decode` are pure: no socket, no
clock, no state. Bytes from the network can only ever make `decode` raise `FrameError`, and it never
allocates more than the frame itself holds.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

VERSION: Final = 2
"""The protocol version to write; version 1 is only for answering a version 1 peer."""

MIN_FRAME_BYTES: Final = 4
"""Version, message type and the end-of-headers mark."""

DEFAULT_MAX_BYTES: Final = 4 * 1024 * 1024
"""No limit of the platform is known (docs/platform/channel.md 2.5). Frames of 200 kB have been seen; a push
about an order has a few hundred bytes."""


class FrameError(ValueError):
    """The bytes are not a frame, or the frame cannot be written. The text never quotes the frame's values."""


class MessageType(IntEnum):
    """What a frame is for (docs/platform/channel.md 2.1)."""

    CONNECT = 0
    CONNECTACK = 1
    SEND = 2
    SENDACK = 3


class _Number(int):
    """An integer that remembers its width on the wire; compares and computes like any int."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self)})"


class Byte(_Number):
    """Signed, 1 byte."""

    __slots__ = ()


class Int16(_Number):
    """Signed, 2 bytes."""

    __slots__ = ()


class Int32(_Number):
    """Signed, 4 bytes."""

    __slots__ = ()


class Int64(_Number):
    """Signed, 8 bytes."""

    __slots__ = ()


class Date(_Number):
    """An instant: signed 8 bytes of milliseconds since 1970-01-01T00:00:00Z."""

    __slots__ = ()


Value = Byte | Int16 | Int32 | Int64 | Date | str | bytes | None
"""A custom header's value: a number of known width, counted text, a byte array, or void."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame. Token and custom values stay out of its repr: they are credentials and buyers' data.

    `status_code` and `flag` are 0 when the header is missing. An empty or null phrase or token reads as
    `None`, because readers cannot tell them apart (docs/platform/channel.md 2.2).
    """

    type: MessageType
    status_code: int = 0
    status_phrase: str | None = None
    flag: int = 0
    token: str | None = field(default=None, repr=False)
    custom: Mapping[str, Value] = field(default_factory=dict, repr=False)
    version: int = VERSION


# Header types (docs/platform/channel.md 2.2).
_END: Final = 0
_CUSTOM: Final = 1
_STATUS_CODE: Final = 2
_STATUS_PHRASE: Final = 3
_FLAG: Final = 4
_TOKEN: Final = 5

# Value types (docs/platform/channel.md 2.3).
_VOID: Final = 0
_STRING: Final = 1
_BYTE: Final = 2
_INT16: Final = 3
_INT32: Final = 4
_INT64: Final = 5
_DATE: Final = 6
_BYTE_ARRAY: Final = 7


class _Order:
    """Byte order of header types, counts and header numbers; it can change once inside a version 1 frame."""

    __slots__ = ("pack_count", "pack_header", "unpack_count", "unpack_header")

    def __init__(self, prefix: str) -> None:
        self.unpack_header = struct.Struct(prefix + "H").unpack_from
        self.unpack_count = struct.Struct(prefix + "i").unpack_from
        self.pack_count = struct.Struct(prefix + "i").pack
        self.pack_header = struct.Struct(prefix + "Hi").pack  # the type and a number or a count


_LITTLE: Final = _Order("<")
_BIG: Final = _Order(">")

_FLIPPING: Final = frozenset({_INT16, _INT32, _INT64, _DATE})
"""In a version 1 frame, everything after the first value of these types is big endian, except the numbers
inside
values: an accident of the Java library that became the format (docs/platform/channel.md 2.4)."""


def decode(data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Frame:
    """The frame in `data`; bytes after its end mark are ignored.

    Stricter than other readers in a single point: an unknown header or value type is refused, since its
    length cannot be known (docs/platform/channel.md 2.2, 2.3).

    Raises:
        FrameError: longer than `max_bytes`, cut short, of an unknown type, or not UTF-8.
    """
    if len(data) > max_bytes:
        raise FrameError(f"the frame has {len(data)} bytes; the limit is {max_bytes}")
    if len(data) < MIN_FRAME_BYTES:
        raise FrameError(f"the frame has {len(data)} bytes; the smallest has {MIN_FRAME_BYTES}")
    try:
        return _decode(data)
    except (struct.error, IndexError):
        raise FrameError("the frame ends before its end-of-headers mark") from None
    except UnicodeDecodeError:
        raise FrameError("a text in the frame is not UTF-8") from None
    except KeyError as error:
        raise FrameError(f"unknown message or value type {error}") from None


def _decode(data: bytes) -> Frame:
    version = 1 if data[0] == 1 else VERSION
    message_type = _MESSAGE_TYPES[data[1]]
    readers = _READERS_V1 if version == 1 else _READERS
    order = _LITTLE
    position = 2
    status_code = flag = 0
    status_phrase = token = None
    custom: dict[str, Value] = {}
    while header := order.unpack_header(data, position)[0]:
        position += 2
        if header == _CUSTOM:
            name, position = _read_string(data, position, order)
            value_type = data[position]
            custom[name or ""], position = readers[value_type](data, position + 1, order)
            if version == 1:
                order = _order_after(value_type, order)
        elif header == _TOKEN:
            token, position = _read_string(data, position, order)
        elif header == _FLAG:
            flag, position = order.unpack_count(data, position)[0], position + 4
        elif header == _STATUS_CODE:
            status_code, position = order.unpack_count(data, position)[0], position + 4
        elif header == _STATUS_PHRASE:
            status_phrase, position = _read_string(data, position, order)
        else:
            raise FrameError(f"unknown header type {header}")
    return Frame(message_type, status_code, status_phrase or None, flag, token or None, custom, version)


_MESSAGE_TYPES: Final = {int(each): each for each in MessageType}


def _read_string(data: bytes, position: int, order: _Order) -> tuple[str | None, int]:
    start = position + 4
    end = start + order.unpack_count(data, position)[0]
    # Before slicing: a declared 2 GB kills readers that allocate first (vector oversize_declared_length).
    if not start <= end <= len(data):
        return None, _after_null(start, end)
    return str(data[start:end], "utf-8"), end


def _read_byte_array(data: bytes, position: int, order: _Order) -> tuple[bytes | None, int]:
    start = position + 4
    end = start + order.unpack_count(data, position)[0]
    if not start <= end <= len(data):
        return None, _after_null(start, end)
    return data[start:end], end


def _after_null(start: int, end: int) -> int:
    """Where reading goes on after a negative length, which means null; a length that is too long raises."""
    if end > start:
        raise FrameError(f"a length of {end - start} is declared where fewer bytes are left")
    return start


def _read_void(_data: bytes, position: int, _order: _Order) -> tuple[None, int]:
    return None, position


_NumberType = type[Byte] | type[Int16] | type[Int32] | type[Int64] | type[Date]
_Reader = Callable[[bytes, int, _Order], tuple[Value, int]]


def _number_reader(kind: _NumberType) -> _Reader:
    layout = struct.Struct("<" + _NUMBERS[kind][1])
    unpack_from, size = layout.unpack_from, layout.size

    def read(data: bytes, position: int, _order: _Order) -> tuple[Value, int]:
        return kind(unpack_from(data, position)[0]), position + size

    return read


_NUMBERS: Final[Mapping[_NumberType, tuple[int, str]]] = {
    Byte: (_BYTE, "b"),
    Int16: (_INT16, "h"),
    Int32: (_INT32, "i"),
    Int64: (_INT64, "q"),
    Date: (_DATE, "q"),
}
"""Value type and `struct` letter; the numbers inside values are little endian in every version."""

_READERS: Final[Mapping[int, _Reader]] = {
    _VOID: _read_void,
    _STRING: _read_string,
    _BYTE_ARRAY: _read_byte_array,
    **{value_type: _number_reader(kind) for kind, (value_type, _) in _NUMBERS.items()},
}


_READERS_V1: Final = {kind: reader for kind, reader in _READERS.items() if kind != _BYTE_ARRAY}


def encode(frame: Frame) -> bytes:
    """The frame's bytes. Headers are in the official Java writer's order, without zero and empty headers.

    Raises:
        FrameError: a value has no wire type (a plain `int` has no width), a number does not fit its
            width, or a byte array is to go into a version 1 frame.
    """
    parts = [bytes((frame.version, frame.type))]
    try:
        if frame.version == 1 and any(isinstance(value, bytes) for value in frame.custom.values()):
            raise FrameError("version 1 has no byte arrays")
        if frame.status_code > 0:
            parts.append(_LITTLE.pack_header(_STATUS_CODE, frame.status_code))
        if frame.status_phrase:
            parts.append(_string_header(_STATUS_PHRASE, frame.status_phrase, _LITTLE))
        if frame.flag > 0:
            parts.append(_LITTLE.pack_header(_FLAG, frame.flag))
        if frame.token:
            parts.append(_string_header(_TOKEN, frame.token, _LITTLE))
        order = _LITTLE
        for name, value in frame.custom.items():
            parts.append(_string_header(_CUSTOM, name, order))
            written = _write_value(value, order)
            parts.append(written)
            if frame.version == 1:
                order = _order_after(written[0], order)
    except struct.error as error:
        raise FrameError(f"a number does not fit its width: {error}") from None
    except UnicodeEncodeError:
        raise FrameError("a text cannot be written as UTF-8") from None
    parts.append(b"\0\0")
    return b"".join(parts)


# Names and tokens repeat from frame to frame. The bound limits the cache when they are always new.
@functools.lru_cache(maxsize=512)
def _string_header(header: int, text: str, order: _Order) -> bytes:
    octets = text.encode()
    return order.pack_header(header, len(octets)) + octets


_NUMBER_WRITERS: Final[Mapping[type, Callable[[Value], bytes]]] = {
    kind: functools.partial(struct.Struct("<B" + letter).pack, value_type)
    for kind, (value_type, letter) in _NUMBERS.items()
}


def _write_value(value: Value, order: _Order) -> bytes:
    write_number = _NUMBER_WRITERS.get(type(value))
    if write_number is not None:
        return write_number(value)
    if isinstance(value, str):
        octets = value.encode()
        return bytes((_STRING,)) + order.pack_count(len(octets)) + octets
    if isinstance(value, bytes):
        return bytes((_BYTE_ARRAY,)) + order.pack_count(len(value)) + value
    if value is None:
        return bytes((_VOID,))
    raise FrameError(f"{type(value).__name__} has no type on the wire")


def _order_after(value_type: int, order: _Order) -> _Order:
    """The byte order of a version 1 frame after a value of that type."""
    return _BIG if value_type in _FLIPPING else order
