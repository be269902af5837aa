"""A fast path from the bytes of an ordinary push to its message.

Nearly everything that comes in is a push of the same shape. Decoding it as a frame with a table of typed
values costs more than all other work on it. So the reader learns the shape of an ordinary push (`shapes`) and
reads pushes of that shape directly. Anything else, even if it is only unusual, goes the general way
(`frames`, `messages`), which alone decides what is an error. Tests compare the two.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

from topsync.platforms.taobao.channel import shapes
from topsync.platforms.taobao.channel.frames import VERSION, MessageType
from topsync.platforms.taobao.channel.messages import MessageError, MessageKind, TmcMessage, instant_of
from topsync.platforms.taobao.channel.shapes import Shape, ShapePart

MAX_SHAPES: Final = 4
"""Shapes that are remembered. They are tried in turn; if the platform writes more shapes, the rest is read
the general way."""

_BEGINNING: Final = bytes((VERSION, MessageType.SEND))

_CUSTOM: Final = 1
_TOKEN: Final = 5
_STRING: Final = 1

_unpack_header = struct.Struct("<Hi").unpack_from  # its type, and the count of the text that follows
_unpack_count = struct.Struct("<i").unpack_from

_NUMBERS: Final = {2: ("b", 1), 4: ("i", 4), 5: ("q", 8), 6: ("q", 8)}
"""The layout of a value of that type, and its size in bytes."""

_FIELDS: Final = {
    name.encode() + bytes((value_type,)): name
    for name, value_types in {
        "__kind": (2,),
        "id": (5,),
        "topic": (_STRING,),
        "content": (_STRING,),
        "time": (6,),
        "outtime": (6,),
        "publisher": (_STRING,),
        "userid": (5,),
        "nick": (_STRING,),
        "dataid": (_STRING, 5),
        "retried": (2, 4),
    }.items()
    for value_type in value_types
}
"""Each name with its value's type after it, as both stand in the frame: a single look-up checks both."""

_NEEDED: Final = ("__kind", "id", "topic")
_DEFAULTS: Final = {"content": "", "time": None, "userid": None, "nick": None, "dataid": None, "retried": 0}
"""The values of fields that a push may lack."""

_DEFAULT_VALUES: Final = tuple(_DEFAULTS.values())
_DATA: Final = int(MessageKind.DATA)  # looking up an enum's member takes as long as reading a number


class _Known(NamedTuple):
    shape: Shape
    pick: Callable[[list[Any]], tuple[Any, ...]]
    """The fields of a push: the required fields, and those that have a default."""


class PushReader:
    """Reads pushes that carry one of the given tokens, by the shapes of pushes that it has read before."""

    def __init__(self, tokens: Collection[str], *, max_bytes: int) -> None:
        self._tokens = frozenset(tokens)
        self._max_bytes = max_bytes
        self._known: list[_Known] = []

    def read(self, data: bytes) -> TmcMessage | None:
        """The message of an ordinary push with a known token; `None` for everything else."""
        if len(data) > self._max_bytes:
            return None
        try:
            for known in self._known:
                values = known.shape.read(data)
                if values is not None:
                    return _message(known, values, data)
            if len(self._known) < MAX_SHAPES:
                return self._learn(data)
        except (struct.error, IndexError, UnicodeDecodeError, KeyError, MessageError):
            pass
        return None

    def _learn(self, data: bytes) -> TmcMessage | None:
        """Reads a push of a new shape; remembers the shape only if all of the push is as expected."""
        shape = _shape(data, self._tokens)
        values = shape.read(data) if shape is not None else None
        if shape is None or values is None:
            return None
        places = {name: place for place, name in enumerate(_DEFAULTS)}
        places |= {name: place for place, name in enumerate(shape.names, start=len(places))}
        known = _Known(shape, itemgetter(*(places[name] for name in (*_NEEDED, *_DEFAULTS))))
        message = _message(known, values, data)
        if message is not None:
            self._known.append(known)
        return message


def _shape(data: bytes, tokens: Collection[str]) -> Shape | None:
    """The shape of a frame in which each field has the type that `_FIELDS` gives it."""
    if data[:2] != _BEGINNING:
        return None
    position = 2
    known = False
    parts: list[ShapePart] = []
    while data[position] or data[position + 1]:
        header, count = _unpack_header(data, position)
        position += 6
        end = position + count
        if count < 0 or end >= len(data):
            return None
        if header == _CUSTOM:
            parts.append(_part(data, position, end))
            position = parts[-1].end
        elif header == _TOKEN:
            known = str(data[position:end], "utf-8") in tokens
            position = end
        else:
            return None
        if position > len(data):
            return None
    return shapes.learn(data, parts, position + 2) if known else None


def _part(data: bytes, name: int, end: int) -> ShapePart:
    """The value that follows a name which begins at `name`; its type's byte comes first."""
    called = _FIELDS[data[name : end + 1]]
    number = _NUMBERS.get(data[end])
    if number is not None:
        layout, size = number
        return ShapePart(called, end + 1, end + 1 + size, layout)
    count = _unpack_count(data, end + 1)[0]
    start = end + 5
    if count < 0:
        raise IndexError("a null text is not ordinary")
    return ShapePart(called, start, start + count, None)


def _message(known: _Known, values: list[Any], raw: bytes) -> TmcMessage | None:
    kind, message_id, topic, content, published_ms, user_id, nick, data_id, retried = known.pick(
        [*_DEFAULT_VALUES, *values]
    )
    if kind != _DATA or not topic:
        return None
    published_at: datetime | None = None if published_ms is None else instant_of(published_ms)
    return TmcMessage(
        message_id,
        topic,
        content,
        published_at,
        user_id,
        nick,
        None if data_id is None else str(data_id),
        retried,
        raw,
    )
