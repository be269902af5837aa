"""How a text that somebody else wrote is shown: as text, in one line, and never so that a terminal obeys it.

Nicks come from the platform, reasons and headers from other people's systems. They may hold escape sequences,
line breaks and marks that turn the direction of writing around. Pure.
"""

from __future__ import annotations

from typing import Final

CELL_CHARACTERS: Final = 1000
"""What a cell of a table shows of a text at most: a detail in words has some hundred."""

_CUT: Final = "..."


def shown(text: str, limit: int | None = None) -> str:
    r"""The text in one line, with everything written out that is no plain character: `\x1b`, `\n`, `\u202e`.

    Of a text of more than `limit` characters the beginning.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - len(_CUT)] + _CUT
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def shown_lines(text: str) -> str:
    """As `shown`, for a text of ours that has several lines, such as a trace: its line breaks stay."""
    return "\n".join(shown(line.rstrip("\r").expandtabs()) for line in text.split("\n"))


def shown_json(document: str, *, ascii_only: bool = False) -> str:
    """A JSON document with what is no plain character, or not ASCII, as an escape: it means the same."""
    if document.isascii() and document.isprintable():
        return document
    return "".join(
        char if char.isprintable() and (char.isascii() or not ascii_only) else _json_escape(char)
        for char in document
    )


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
