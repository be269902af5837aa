"""The short way from the bytes of an ordinary push to its message.

Nearly everything that comes in is a push of one shape, and reading it by way of a frame with a table of
typed values costs more than everything else that is done with it. So what has that shape is read here in
one pass. Whatever has not, also what is merely unusual, is left to the general way (`frames`, `messages`),
which alone decides what is an error. Tests hold the two against each other.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from typing import Any, Final

from topsync.tmc.frames import VERSION, MessageType
from topsync.tmc.messages import Kind, MessageError, TmcMessage, instant_of

_BEGINNING: Final = bytes((VERSION, MessageType.SEND))

_CUSTOM: Final = 1
_TOKEN: Final = 5
_STRING: Final = 1

_unpack_header = struct.Struct("<Hi").unpack_from  # its type, and the count of the text that follows
_unpack_count = struct.Struct("<i").unpack_from

_INT32: Final = struct.Struct("<i")
_INT64: Final = struct.Struct("<q")
_BYTE: Final = struct.Struct("<b")

_NUMBERS: Final = {
    2: (_BYTE.unpack_from, 2),
    4: (_INT32.unpack_from, 5),
    5: (_INT64.unpack_from, 9),
    6: (_INT64.unpack_from, 9),
}
"""How to read a value of that type, and its length with the type's byte."""

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
"""A name with its value's type behind it, as both stand in the frame: one look-up checks the two."""


def read_push(data: bytes, tokens: Container[str], *, max_bytes: int) -> TmcMessage | None:
    """The message of an ordinary push that carries one of these tokens; `None` for everything else."""
    if len(data) > max_bytes:
        return None
    try:
        fields = _read_fields(data, tokens)
        if fields is None or fields["__kind"] != Kind.DATA or not fields["topic"]:
            return None
        return _message(fields, data)
    except (struct.error, IndexError, UnicodeDecodeError, KeyError, MessageError):
        return None


def _read_fields(data: bytes, tokens: Container[str]) -> dict[str, Any] | None:
    """Each field with the type that `_FIELDS` gives it."""
    if data[:2] != _BEGINNING:
        return None
    size = len(data)
    position = 2
    known = False
    fields: dict[str, Any] = {}
    while data[position] or data[position + 1]:
        header, count = _unpack_header(data, position)
        position += 6
        end = position + count
        if count < 0 or end >= size:
            return None
        if header == _CUSTOM:
            name = _FIELDS[data[position : end + 1]]
            number = _NUMBERS.get(data[end])
            if number is None:
                count = _unpack_count(data, end + 1)[0]
                position = end + 5 + count
                if count < 0 or position > size:
                    return None
                fields[name] = str(data[end + 5 : position], "utf-8")
            else:
                fields[name] = number[0](data, end + 1)[0]
                position = end + number[1]
        elif header == _TOKEN:
            known = str(data[position:end], "utf-8") in tokens
            position = end
        else:
            return None
    return fields if known else None


def _message(fields: dict[str, Any], raw: bytes) -> TmcMessage:
    get = fields.get
    published_ms, sent_ms, data_id = get("time"), get("outtime"), get("dataid")
    return TmcMessage(
        fields["id"],
        fields["topic"],
        get("content", ""),
        None if published_ms is None else instant_of(published_ms),
        None if sent_ms is None else instant_of(sent_ms),
        get("userid"),
        get("nick"),
        None if data_id is None else str(data_id),
        get("retried", 0),
        raw,
    )
