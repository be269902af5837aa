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
_Piece = tuple[Callable[[bytes, int], tuple[Any, ...]], int, tuple[bytes, ...]]
"""Reads everything up to a text; its size in bytes; and the bytes that must stand between the values."""


@dataclass(frozen=True, slots=True)
class Shape:
    """See the module."""

    names: tuple[str, ...]
    """The names of the values, in the frame's order."""
    _texts: tuple[_Piece, ...]
    """The pieces before each text; the last value of such a piece is the text's count."""
    _rest: _Piece

    def read(self, data: bytes) -> list[Any] | None:
        """The values of `names`; `None` for a frame of another shape.

        Raises:
            struct.error: the frame ends too early.
            UnicodeDecodeError: a text is not UTF-8.
        """
        values: list[Any] = []
        position = 0
        for unpack, size, between in self._texts:
            found = unpack(data, position)
            if found[::2] != between:
                return None
            values += found[1::2]
            position += size
            end = position + values[-1]
            if end < position:
                return None
            # If the count is larger than the rest, reading the next piece raises.
            values[-1] = str(data[position:end], "utf-8")
            position = end
        unpack, _, between = self._rest
        found = unpack(data, position)
        if found[::2] != between:
            return None
        values += found[1::2]
        return values


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
            texts.append(_piece(layout, between))
            between, layout = [], "<"
    between.append(data[position:end])
    return Shape(tuple(names), tuple(texts), _piece(f"{layout}{end - position}s", between))


def _piece(layout: str, between: Iterable[bytes]) -> _Piece:
    compiled = struct.Struct(layout)
    return compiled.unpack_from, compiled.size, tuple(between)
