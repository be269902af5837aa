"""Reads frames of a known shape: the same headers in the same order as an earlier frame, with other values.

The platform's pushes all look alike, so nearly everything in them is known beforehand. A `Shape` compares a
frame with the frame it was learnt from in a few steps, and reads the values between. A frame that differs in
any byte of a name, a type or a token has another shape.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple


class ShapePart(NamedTuple):
    """A value in a frame: its name, its position, and the layout of a number.

    The position of a text excludes its count. `layout` is the `struct` letter of a number, and None for a
    text.
    """

    name: str
    start: int
    end: int
    layout: str | None


_COUNT_BYTES: Final = 4
_Unpack = Callable[[bytes, int], tuple[Any, ...]]
"""Reads a piece of a frame: in turn the bytes that stand before a value, and the value."""


@dataclass(frozen=True, slots=True)
class Shape:
    """See the module."""

    names: tuple[str, ...]
    """The names of the values, in the frame's order."""
    _texts: tuple[tuple[_Unpack, int], ...]
    """Reads the piece before each text, and its size in bytes; the piece's last value is the text's count."""
    _rest: _Unpack
    """Reads what follows the last text."""
    _between: list[bytes]
    """What must stand before, between and behind the values. Compared only once everything is read, because a
    frame of another shape is rare."""

    def read(self, data: bytes) -> list[Any] | None:
        """The values of `names`; `None` for a frame of another shape, or whose text is not UTF-8."""
        found: list[Any] = []
        position = 0
        try:
            for unpack, size in self._texts:
                found += unpack(data, position)
                position += size
                end = position + found[-1]
                if end < position:
                    return None
                # If the count is larger than the rest, reading the next piece raises.
                found[-1] = str(data[position:end], "utf-8")
                position = end
            found += self._rest(data, position)
        except (struct.error, UnicodeDecodeError):
            return None
        return found[1::2] if found[::2] == self._between else None


def learn(data: bytes, parts: Iterable[ShapePart], end: int) -> Shape:
    """The shape of a frame that ends at `end` and has these values, in their order."""
    names, texts = [], []
    between: list[bytes] = []
    layout = "<"
    position = 0
    for part in parts:
        start = part.start if part.layout else part.start - _COUNT_BYTES
        names.append(part.name)
        between.append(data[position:start])
        layout += f"{start - position}s{part.layout or 'i'}"
        position = part.end
        if part.layout is None:
            piece = struct.Struct(layout)
            texts.append((piece.unpack_from, piece.size))
            layout = "<"
    between.append(data[position:end])
    rest = struct.Struct(f"{layout}{end - position}s")
    return Shape(tuple(names), tuple(texts), rest.unpack_from, between)
