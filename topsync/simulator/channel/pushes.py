"""What a push looks like on the wire: a Data frame in one WebSocket message, whole or damaged on purpose."""

from __future__ import annotations

import functools
import gzip
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import orjson

from topsync.platforms.taobao.channel.frames import (
    Byte,
    Frame,
    Int16,
    Int32,
    Int64,
    MessageType,
    Value,
    encode,
)
from topsync.platforms.taobao.channel.messages import MessageKind, date_of
from topsync.simulator import wire
from topsync.simulator.channel import websocket
from topsync.simulator.channel.queue import Queued
from topsync.simulator.channel.settings import ChannelSettings, WireType
from topsync.simulator.channel.websocket import Opcode
from topsync.simulator.faults.effects import Damage, Fate

INT64_MAX: Final = 2**63 - 1

STRANGE_SENDER: Final = "00000000-0000-4000-8000-000000000000"
"""A token that no client ever got."""

VOIDABLE_FIELDS: Final = ("outtime", "publisher", "nick", "dataid", "retried")
"""Fields that a client can do without (docs/platform/channel.md 4.2)."""

UNKNOWN_FIELDS: Final[Mapping[str, Value]] = {
    "x_new_text": "x",
    "x_new_number": Int32(7),
    "x_new_void": None,
    "x_new_bytes": b"\x00\xff",
}

_NUMBERS: Final = {
    WireType.BYTE: Byte,
    WireType.INT16: Int16,
    WireType.INT32: Int32,
    WireType.INT64: Int64,
}


@dataclass(frozen=True, slots=True)
class Recipient:
    """What the writer of a push must know about the connection that it goes to."""

    token: str
    version: int


class PushWriter:
    """Writes pushes in the form that the settings ask for."""

    def __init__(self, settings: ChannelSettings) -> None:
        self._settings = settings
        looks = (settings.data_id_type, settings.retried_type, settings.notify, settings.gzip_minimum_bytes)
        self._is_ordinary = settings.with_outtime and looks == (WireType.INT64, WireType.INT32, None, None)

    def push(self, queued: Queued, to: Recipient, *, sent_at: datetime, zipped: bool) -> bytes:
        """One delivery, ready for the socket; `zipped` gzips the content whatever its size."""
        fate = queued.fate
        if self._is_ordinary and not zipped and to.version != 1 and not fate.changes_frame:
            payload = _ordinary(queued, to.token, self._settings.publisher, sent_at)
            return websocket.header(Opcode.BINARY, len(payload)) + payload
        frame = push_frame(queued, to, self._settings, sent_at=sent_at, zipped=zipped)
        if fate.damage is not None and queued.retried < fate.damaged_deliveries:
            return _DAMAGES[fate.damage](frame)
        return websocket.frame(Opcode.BINARY, encode(frame))


def push_frame(
    queued: Queued, to: Recipient, settings: ChannelSettings, *, sent_at: datetime, zipped: bool
) -> Frame:
    """A Data frame, its fields in the order and of the types of vector `data_push`; never with a Flag."""
    message, fate = queued.message, queued.fate
    custom: dict[str, Value] = {
        "__kind": Byte(MessageKind.DATA),
        "id": Int64(queued.id),
        "topic": message.topic,
        "content": _content(message.content, fate, settings, zipped=zipped),
        "time": date_of(message.published_at),
        **({"outtime": date_of(sent_at)} if settings.with_outtime else {}),
        "publisher": settings.publisher,
        "userid": Int64(message.user_id),
        "nick": message.nick,
        **_typed("dataid", message.data_id, settings.data_id_type),
        **_typed("retried", str(queued.retried), settings.retried_type),
        **({} if settings.notify is None else {"notify": settings.notify}),
    }
    if fate.void_fields:
        custom |= dict.fromkeys(VOIDABLE_FIELDS)
    if fate.extra_fields:
        custom |= UNKNOWN_FIELDS
    return Frame(MessageType.SEND, token=to.token, version=to.version, custom=custom)


def _content(text: str, fate: Fate, settings: ChannelSettings, *, zipped: bool) -> Value:
    if fate.text_ids:
        text = orjson.dumps(wire.with_text_ids(orjson.loads(text))).decode()
    if fate.unreadable_content:
        text = text[: len(text) // 2]
    octets, least = text.encode(), settings.gzip_minimum_bytes
    if zipped or fate.gzipped or (least is not None and len(octets) >= least):
        return gzip.compress(octets)
    return text


def _typed(name: str, text: str, kind: WireType) -> dict[str, Value]:
    """A field in the type that was chosen for it; as text when it is no number or does not fit."""
    if kind is WireType.ABSENT:
        return {}
    if kind is WireType.VOID:
        return {name: None}
    number = _NUMBERS.get(kind)
    if number is None or not (text.isdecimal() and len(text) <= 19 and int(text) <= _MOST[kind]):
        return {name: text}
    return {name: number(text)}


_MOST: Final = {
    WireType.BYTE: 2**7 - 1,
    WireType.INT16: 2**15 - 1,
    WireType.INT32: 2**31 - 1,
    WireType.INT64: INT64_MAX,
}


# The ordinary push is made from constant pieces, because in a benchmark the channel must keep up with the
# client. A test compares it with the frame that the codec writes.

_FIELD: Final = struct.Struct("<Hi")
_NUMBER: Final = struct.Struct("<Bq")
_TEXT: Final = struct.Struct("<Bi")
_CUSTOM: Final = 1
_VALUE_TEXT: Final = 1
_VALUE_INT32: Final = 4
_VALUE_INT64: Final = 5
_VALUE_DATE: Final = 6


def _name(name: str) -> bytes:
    return _FIELD.pack(_CUSTOM, len(name)) + name.encode()


_ID, _CONTENT, _TIME, _OUT_TIME, _USER_ID, _DATA_ID, _RETRIED = map(
    _name, ("id", "content", "time", "outtime", "userid", "dataid", "retried")
)
_INT32: Final = struct.Struct("<Bi")
_END: Final = b"\0\0"


# Tokens, topics and nicks are few; the bounds limit the caches if the values keep changing.
@functools.lru_cache(maxsize=2048)
def _opening(token: str) -> bytes:
    """Everything before the id."""
    return encode(Frame(MessageType.SEND, token=token, custom={"__kind": Byte(MessageKind.DATA)}))[
        : -len(_END)
    ]


@functools.lru_cache(maxsize=8192)
def _text_field(name: str, text: str) -> bytes:
    octets = text.encode()
    return _name(name) + _TEXT.pack(_VALUE_TEXT, len(octets)) + octets


# Cached, because many pushes go out at the same moment.
@functools.lru_cache(maxsize=4)
def _out_time(sent_at: datetime) -> bytes:
    return _OUT_TIME + _NUMBER.pack(_VALUE_DATE, date_of(sent_at))


def _ordinary(queued: Queued, token: str, publisher: str, sent_at: datetime) -> bytes:
    message, data_id = queued.message, queued.message.data_id
    content = message.content.encode()
    if data_id.isdecimal() and len(data_id) <= 19 and (number := int(data_id)) <= INT64_MAX:
        business_id = _DATA_ID + _NUMBER.pack(_VALUE_INT64, number)
    else:
        business_id = _text_field("dataid", data_id)
    return b"".join(
        (
            _opening(token),
            _ID,
            _NUMBER.pack(_VALUE_INT64, queued.id),
            _text_field("topic", message.topic),
            _CONTENT,
            _TEXT.pack(_VALUE_TEXT, len(content)),
            content,
            _TIME,
            _NUMBER.pack(_VALUE_DATE, date_of(message.published_at)),
            _out_time(sent_at),
            _text_field("publisher", publisher),
            _USER_ID,
            _NUMBER.pack(_VALUE_INT64, message.user_id),
            _text_field("nick", message.nick),
            business_id,
            _RETRIED,
            _INT32.pack(_VALUE_INT32, queued.retried),
            _END,
        )
    )


# Damage: each kind makes exactly one thing of the push wrong.


def _with_custom(frame: Frame, **changes: Value) -> Frame:
    return replace(frame, custom={**frame.custom, **changes})


def _without(frame: Frame, name: str) -> Frame:
    return replace(frame, custom={key: value for key, value in frame.custom.items() if key != name})


def _followed_by(tail: bytes) -> Callable[[Frame], bytes]:
    """Damage that adds a header at the end."""

    def damaged(frame: Frame) -> bytes:
        return _binary(encode(frame)[: -len(_END)] + tail + _END)

    return damaged


def _binary(payload: bytes) -> bytes:
    return websocket.frame(Opcode.BINARY, payload)


def _truncated(frame: Frame) -> bytes:
    payload = encode(frame)
    return _binary(payload[: len(payload) // 2])


def _fragmented(frame: Frame) -> bytes:
    payload = encode(frame)
    half = len(payload) // 2
    return websocket.frame(Opcode.BINARY, payload[:half], final=False) + websocket.frame(
        Opcode.CONTINUATION, payload[half:]
    )


_DAMAGES: Final[Mapping[Damage, Callable[[Frame], bytes]]] = {
    Damage.TRUNCATED: _truncated,
    Damage.FRAGMENTED: _fragmented,
    Damage.EMPTY: lambda _: _binary(b""),
    Damage.PINGED: lambda frame: websocket.frame(Opcode.PING, b"") + _binary(encode(frame)),
    Damage.UNKNOWN_HEADER: _followed_by(b"\x63\x00"),
    Damage.UNKNOWN_VALUE: _followed_by(_name("x") + b"\x63"),
    Damage.HUGE_LENGTH: _followed_by(_name("x") + b"\x01\xff\xff\xff\x7f"),
    Damage.NOT_UTF8: _followed_by(_name("x") + b"\x01\x02\x00\x00\x00\xff\xfe"),
    Damage.SENDERLESS: lambda frame: _binary(encode(replace(frame, token=None))),
    Damage.STRANGE_SENDER: lambda frame: _binary(encode(replace(frame, token=STRANGE_SENDER))),
    Damage.FLAGGED: lambda frame: _binary(encode(replace(frame, flag=1))),
    Damage.NO_ID: lambda frame: _binary(encode(_without(frame, "id"))),
    Damage.NO_TOPIC: lambda frame: _binary(encode(_without(frame, "topic"))),
    Damage.NUMBER_AS_TEXT: lambda frame: _binary(encode(_with_custom(frame, userid="not a number"))),
    Damage.BAD_GZIP: lambda frame: _binary(encode(_with_custom(frame, content=b"\x1f\x8b\x00\xff"))),
}
