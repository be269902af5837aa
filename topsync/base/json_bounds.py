"""How much a JSON document may hold, checked before it is parsed.

A value takes up to two hundred bytes in memory, but may take only three in the document: 15 MB of `[],`
become 420 MB, and block the event loop for seconds. Each value but the first follows a comma, and each list,
object and name has a character of its own. Counting these bytes takes milliseconds. Those within texts are
counted as well; the bound is so high that this does not matter.
"""

from __future__ import annotations

from typing import Final

import orjson

MAX_VALUES: Final = 250_000
"""Values in an answer or a line. A hundred complete trades have about 60,000 (1 MB), and a trade with a
thousand order lines has 120,000. A document at the bound takes about twenty megabytes and a fraction of a
second."""

_MARKS: Final = b",:[{"


class TooManyValuesError(ValueError):
    """The document holds too many values. The error's text names the bound, and quotes nothing."""


def check(document: bytes | str, max_values: int = MAX_VALUES) -> None:
    """Check that a document can be parsed without harm.

    Raises:
        TooManyValuesError: it holds more than `max_values` values.
    """
    # Each value takes at least a byte, so a short document cannot have too many.
    if len(document) <= max_values:
        return
    octets = document.encode("utf-8", "replace") if isinstance(document, str) else document
    if len(octets) - len(octets.translate(None, _MARKS)) > max_values:
        raise TooManyValuesError(f"more than {max_values} values")


def loads(document: bytes | str, max_values: int = MAX_VALUES) -> object:
    """Parse JSON with orjson, after `check`.

    Raises:
        ValueError: it is not JSON, or holds too many values.
    """
    check(document, max_values)
    loaded: object = orjson.loads(document)
    return loaded
