"""What can still be read of a frame that is too long to be kept: the fields around its long value.

Without its id a message cannot be confirmed, and an unconfirmed message is delivered again
(docs/platform/channel.md 6). Fields may come in any order (2.2), so the id can stand before the long value,
in the part kept of the beginning, or after it, in the part kept of the end.
"""

from __future__ import annotations

import struct
from typing import Final

from topsync.platforms.taobao.channel.incoming import Oversized

_END: Final = b"\0\0"

_CUSTOM: Final = 1
_COUNTED: Final = (3, 5)
"""Headers that are a counted text: phrase and token."""
_NUMBERS: Final = (2, 4)
"""Headers that are a number: status code and flag."""

_COUNTED_VALUES: Final = (1, 7)
"""Value types that are counted bytes: text and byte array."""
_VALUE_BYTES: Final = {0: 0, 2: 1, 3: 2, 4: 4, 5: 8, 6: 8}
"""The size of values of the other types."""

_unpack_header = struct.Struct("<H").unpack_from
_unpack_count = struct.Struct("<i").unpack_from


def readable_part(message: Oversized) -> bytes:
    """A frame with the fields that are left complete; empty for version 1. Pure.

    If the message was not a frame, the result is not a frame either.
    """
    head, position = message.head, 2
    if head[:1] == b"\x01":
        return b""
    try:
        while (end := _end_of_header(head, position)) <= len(head):
            if end == position:
                return head[:position] + _END
            position = end
    except (struct.error, IndexError, KeyError):
        return head[:position] + _END
    behind = end - (message.size_bytes - len(message.tail))
    return head[:position] + (message.tail[behind:] if behind >= 0 else _END)


def _end_of_header(head: bytes, position: int) -> int:
    """Where the header at `position` ends, which may be beyond the head; `position` itself for the end mark.

    Raises:
        struct.error, IndexError: the head does not show where it ends.
        KeyError: its type is unknown.
    """
    header = _unpack_header(head, position)[0]
    if not header:
        return position
    position += 2
    if header in _NUMBERS:
        return position + 4
    if header in _COUNTED:
        return _end_of_counted(head, position)
    if header != _CUSTOM:
        raise KeyError(header)
    position = _end_of_counted(head, position)
    value_type = head[position]
    if value_type in _COUNTED_VALUES:
        return _end_of_counted(head, position + 1)
    return position + 1 + _VALUE_BYTES[value_type]


def _end_of_counted(head: bytes, position: int) -> int:
    count: int = _unpack_count(head, position)[0]
    return position + 4 + max(0, count)
