"""Frames that look like one that was read before: the same headers in the same order, other values.

The platform's pushes all look alike, so nearly everything in them is known beforehand: what a `Shape` has
learnt from one frame it compares in a few steps, and reads what lies between. A frame that differs in a
byte where the first had a name, a type or a token has another shape.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple


class ShapePart(NamedTuple):
    """A value in a frame: what it is called, where it lies, and how a number is laid out.

    Of a text without its count; `layout` is the `struct` letter of a number, and None for a text.
    """

    name: str
    start: int
    end: int
    layout: str | None


_COUNT_BYTES: Final = 4
_Piece = tuple[Callable[[bytes, int], tuple[Any, ...]], int, tuple[bytes, ...]]
"""Reads everything up to a text, how many bytes that are, and what must stand between the values."""


@dataclass(frozen=True, slots=True)
class Shape:
    """See the module."""

    names: tuple[str, ...]
    """What the values are called, in the frame's order."""
    _texts: tuple[_Piece, ...]
    """Each piece that a text follows; its last value is the text's count."""
    _rest: _Piece

    def read(self, data: bytes) -> list[Any] | None:
        """The values of `names`; `None` for a frame of another shape.

        Raises:
            struct.error: the frame ends too early.
            UnicodeDecodeError: a text is none.
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
            # Where the count says more than there is, the next piece has nothing to be read from.
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
