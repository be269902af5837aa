"""Application messages: the custom headers of a SEND frame, and the CONNECT that opens a connection.

Source: docs/platform/channel.md 3 and 4. Pure functions between `Frame` and typed values.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final, NamedTuple

from topsync.platforms.taobao.channel.frames import (
    Byte,
    Date,
    Frame,
    Int16,
    Int32,
    Int64,
    MessageType,
    Value,
    encode,
)
from topsync.platforms.taobao.gateway.sign import SignMethod, sign

DEFAULT_MAX_CONTENT_BYTES: Final = 4 * 1024 * 1024
"""A gzipped content may unpack to this size: far above any order hint, far below a decompression bomb."""

MAX_FAILURE_REASON_CHARS: Final = 128
"""The official client cuts the reason of a Failed to this length (docs/platform/channel.md 4.3)."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_GZIP: Final = 16 + zlib.MAX_WBITS

_Fields = Mapping[str, Value]

_INTEGERS: Final = (Byte, Int16, Int32, Int64)
"""Writers choose widths differently, so a numeric field may have any of them (2.3). A date is not a
number."""


class MessageKind(IntEnum):
    """The kind of a SEND, from its header `__kind` (docs/platform/channel.md 4.1)."""

    PULL_REQUEST = 1
    CONFIRM = 2
    DATA = 3
    FAILED = 20


class MessageError(ValueError):
    """A well-formed frame that is not a message we can read. The text never quotes its values.

    `message_id` is set when at least the id could be read: such a message can still be confirmed once its
    raw bytes have been put aside, and does not come back for a day.
    """

    def __init__(self, reason: str, message_id: int | None = None) -> None:
        super().__init__(reason)
        self.message_id = message_id


class TmcMessage(NamedTuple):
    """A pushed message: a hint that something happened, never the data itself.

    `id` is the delivery id, which a confirm names. `content` is text, usually a JSON object with
    ids beyond 2^53, and empty when the platform sent none. `published_at` is UTC.
    `user_id` and `nick` are the seller's. `retried` counts redeliveries. `raw` is the frame as received.

    It is a named tuple because one is made for each message, and nothing immutable is faster to make.
    """

    id: int
    topic: str
    content: str
    published_at: datetime | None
    user_id: int | None
    nick: str | None
    data_id: str | None
    retried: int
    raw: bytes

    def __repr__(self) -> str:
        """Without content and raw bytes, which may hold a buyer's data."""
        return f"TmcMessage(id={self.id}, topic={self.topic!r}, user_id={self.user_id})"


def read_kind(frame: Frame) -> int | None:
    """The number in `__kind`; `None` when it is missing or no number."""
    return _integer(frame.custom.get("__kind"))


def read_id(frame: Frame) -> int | None:
    """The id that confirms a pushed message; `None` for another frame, or when it has none."""
    return _integer(frame.custom.get("id")) if read_kind(frame) == MessageKind.DATA else None


def read_message(
    frame: Frame, raw: bytes, *, max_content_bytes: int = DEFAULT_MAX_CONTENT_BYTES
) -> TmcMessage:
    """The pushed message in a SEND of kind DATA. Unknown fields are ignored.

    Raises:
        MessageError: the id or topic is missing, a field has a type it cannot have, or the content cannot
            be unpacked within `max_content_bytes`.
    """
    fields = frame.custom
    message_id = _integer(fields.get("id"))
    if message_id is None:
        raise MessageError("id is missing or no integer")
    try:
        return _message(message_id, fields, raw, max_content_bytes)
    except MessageError as error:
        raise MessageError(str(error), message_id) from None


def _message(message_id: int, fields: _Fields, raw: bytes, max_content_bytes: int) -> TmcMessage:
    topic = _text(fields, "topic")
    if not topic:
        raise MessageError("topic is missing")
    user_id = fields.get("userid")
    if user_id is not None and not isinstance(user_id, _INTEGERS):
        raise MessageError("userid is no integer")
    return TmcMessage(
        id=message_id,
        topic=topic,
        content=_content(fields.get("content"), max_content_bytes),
        published_at=_instant(fields, "time"),
        user_id=_integer(user_id),
        nick=_text(fields, "nick"),
        data_id=_as_text(fields.get("dataid")),
        retried=_count(fields.get("retried")),
        raw=raw,
    )


def _integer(value: Value) -> int | None:
    return int(value) if isinstance(value, _INTEGERS) else None


def _count(value: Value) -> int:
    """`retried` in any type: its wire type is not known (4.2), and no message is refused because of it."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return _integer(value) or 0


def _as_text(value: Value) -> str | None:
    """`dataid` may have any type and is read through its text (4.2)."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return None if value is None else str(value if isinstance(value, str) else int(value))


def _text(fields: _Fields, name: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise MessageError(f"{name} is no text")


def _instant(fields: _Fields, name: str) -> datetime | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, Date):
        raise MessageError(f"{name} is no date")
    return instant_of(value)


def instant_of(milliseconds: int) -> datetime:
    """The instant (UTC) of a date value.

    Raises:
        MessageError: it lies outside of the years 1 to 9999.
    """
    try:
        return _EPOCH + timedelta(0, 0, 0, milliseconds)
    except OverflowError:
        raise MessageError("a date is out of range") from None


def date_of(instant: datetime) -> Date:
    """The date value of an aware instant, cut to milliseconds."""
    return Date((instant - _EPOCH) // timedelta(milliseconds=1))


def _content(value: Value, max_bytes: int) -> str:
    """Content is text, or the gzip of its UTF-8 bytes (4.2)."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise MessageError("content is neither text nor a byte array")
    unpacker = zlib.decompressobj(_GZIP)
    try:
        octets = unpacker.decompress(value, max_bytes + 1)
    except zlib.error:
        raise MessageError("content is a byte array but not gzip") from None
    if len(octets) > max_bytes:
        raise MessageError(f"content unpacks to more than {max_bytes} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise MessageError("gzipped content is cut short, or has something behind its end")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise MessageError("gzipped content is not UTF-8") from None


def connect_sign(app_key: str, group: str, timestamp_ms: int, secret: str) -> str:
    """The upper-case MD5 over the three signed fields of CONNECT (docs/platform/channel.md 3.2)."""
    fields = {"app_key": app_key, "group_name": group, "timestamp": str(timestamp_ms)}
    return sign(fields, secret, SignMethod.MD5)


@dataclass(frozen=True, slots=True)
class ConnectFields:
    """The fields of CONNECT that are not signed and that clients do without (docs/platform/channel.md 3.1).

    A field that is None is not sent. What `minor_group`, `filter_exp` and `out_id` mean is not known; the
    official client sends `default` and `*` for the first two.
    """

    sdk: str | None = "topsync"
    intranet_ip: str | None = None
    minor_group: str | None = None
    filter_exp: str | None = None
    out_id: str | None = None


def connect(
    app_key: str,
    group: str,
    timestamp_ms: int,
    secret: str,
    *,
    flag: int,
    fields: ConnectFields | None = None,
    token: str | None = None,
) -> Frame:
    """The first frame of a connection. `timestamp_ms` is the platform's time in Unix milliseconds.

    `token` is the answer of `taobao.tmc.auth.get`, which is not the token that CONNECTACK gives.
    """
    optional = asdict(fields or ConnectFields()) | {"token": token}
    return Frame(
        MessageType.CONNECT,
        flag=flag,
        custom={
            "app_key": app_key,
            "group_name": group,
            "timestamp": str(timestamp_ms),
            "sign": connect_sign(app_key, group, timestamp_ms, secret),
            **{name: value for name, value in optional.items() if value},
        },
    )


def pull_request(token: str) -> Frame:
    """Asks for messages that the push missed; has no parameters and no defined answer (5.1)."""
    return Frame(MessageType.SEND, token=token, custom={"__kind": Byte(MessageKind.PULL_REQUEST)})


def confirm(token: str, message_id: int) -> Frame:
    """Ends a message for good. It has no answer; a frame confirms a single id (4.1, 4.3)."""
    return Frame(
        MessageType.SEND, token=token, custom={"id": Int64(message_id), "__kind": Byte(MessageKind.CONFIRM)}
    )


def confirms(token: str, message_ids: Iterable[int]) -> list[bytes]:
    """The bytes of a `confirm` for each id."""
    # The frames differ only in the eight bytes of the id.
    sample = encode(confirm(token, _SAMPLE_ID))
    head, _, tail = sample.rpartition(_pack_id(_SAMPLE_ID))
    return [head + _pack_id(message_id) + tail for message_id in message_ids]


_SAMPLE_ID: Final = 0x0706_0504_0302_0100
_pack_id: Final = struct.Struct("<q").pack


def failed(token: str, message_id: int, reason: str | None) -> Frame:
    """Asks for redelivery of a message; the reason is cut to `MAX_FAILURE_REASON_CHARS` (4.3)."""
    return Frame(
        MessageType.SEND,
        token=token,
        custom={
            "msg": None if reason is None else reason[:MAX_FAILURE_REASON_CHARS],
            "id": Int64(message_id),
            "__kind": Byte(MessageKind.FAILED),
        },
    )
