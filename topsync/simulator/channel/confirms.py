"""Reads a client's confirms quickly: they differ only in the id.

In a benchmark a client sends tens of thousands of confirms a second, with the same bytes around each id. We
learn these bytes from a frame that the codec has read. A frame that differs goes to the codec again.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from topsync.platforms.taobao.channel.frames import Frame, Int64, MessageType
from topsync.platforms.taobao.channel.messages import MessageKind, read_kind

_ID_FIELD: Final = b"\x01\x00\x02\x00\x00\x00id\x05"
"""A custom header called `id` up to its 64-bit value (docs/platform/channel.md 2.2, 2.3)."""

_ID: Final = struct.Struct("<q")


@dataclass(frozen=True, slots=True)
class ConfirmShape:
    """The bytes around the id in the confirms of one client. They hold its token."""

    head: bytes = field(repr=False)
    tail: bytes = field(repr=False)
    token: str = field(repr=False)

    def id_in(self, data: bytes) -> int | None:
        """The id of a confirm of this shape; None when the frame is anything else."""
        end = len(self.head) + _ID.size
        if len(data) != end + len(self.tail) or not data.startswith(self.head) or data[end:] != self.tail:
            return None
        message_id: int = _ID.unpack_from(data, len(self.head))[0]
        return message_id


def shape_of(data: bytes, frame: Frame) -> ConfirmShape | None:
    """The shape of the confirm in `data`; None when `frame` is no plain confirm, or asks for an answer."""
    if frame.type is not MessageType.SEND or frame.flag or not frame.token or frame.version == 1:
        return None
    if read_kind(frame) != MessageKind.CONFIRM or type(frame.custom.get("id")) is not Int64:
        return None
    head, found, rest = data.partition(_ID_FIELD)
    tail = rest[_ID.size :]
    # The same bytes may also be part of a text; then only the codec can find the id.
    if not found or _ID_FIELD in tail or _ID.unpack_from(rest)[0] != frame.custom["id"]:
        return None
    return ConfirmShape(head + found, tail, frame.token)
