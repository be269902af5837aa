"""Shows text that somebody else wrote: in one line, and so that it can never control the terminal.

Nicks come from the platform, reasons and headers from other people's systems. They may hold escape sequences,
line breaks and marks that turn the direction of writing. Pure.
"""

from __future__ import annotations

from typing import Final

CELL_CHARACTERS: Final = 1000
"""The most that a cell of a table shows of a text. A detail in words has about a hundred characters."""

_CUT: Final = "..."


def shown(text: str, limit: int | None = None) -> str:
    r"""The text in one line; what is not a plain character becomes an escape: `\x1b`, `\n`, `\u202e`.

    A text of more than `limit` characters is cut there.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - len(_CUT)] + _CUT
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def shown_lines(text: str) -> str:
    """As `shown`, for our own text of several lines, such as a traceback: its line breaks stay."""
    return "\n".join(shown(line.rstrip("\r").expandtabs()) for line in text.split("\n"))


def shown_json(document: str, *, ascii_only: bool = False) -> str:
    """A JSON document in which whatever is not a plain character is an escape; it means the same.

    With `ascii_only`, whatever is not ASCII is an escape as well.
    """
    if document.isascii() and document.isprintable():
        return document
    return "".join(
        char if char.isprintable() and (char.isascii() or not ascii_only) else _json_escape(char)
        for char in document
    )


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
