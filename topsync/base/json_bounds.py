"""How much JSON may hold, judged before anything is built of it.

A value takes up to two hundred bytes in memory and as few as three on the way: 15 MB of `[],` make 420 MB,
and hold the event loop for seconds. Before each value but the first stands a comma; each list, object and
name has a mark of its own. These bytes are counted, which takes milliseconds, also those in texts: the bound
is so high that they do not matter.
"""

from __future__ import annotations

from typing import Final

import orjson

MAX_VALUES: Final = 250_000
"""Of an answer or a line. A hundred complete trades have about 60,000 (1 MB), and one trade with a thousand
order lines 120,000. At the bound it is some twenty megabytes, and a fraction of a second."""

_MARKS: Final = b",:[{"


class TooManyValuesError(ValueError):
    """It holds more than it may. The text says how much that is, and none of it."""


def check(document: bytes | str, max_values: int = MAX_VALUES) -> None:
    """Let pass what can be read without harm.

    Raises:
        TooManyValuesError: it cannot.
    """
    # Each of them is a byte, so what is short has few enough.
    if len(document) <= max_values:
        return
    octets = document.encode("utf-8", "replace") if isinstance(document, str) else document
    if len(octets) - len(octets.translate(None, _MARKS)) > max_values:
        raise TooManyValuesError(f"more than {max_values} values")


def loads(document: bytes | str, max_values: int = MAX_VALUES) -> object:
    """JSON as orjson reads it.

    Raises:
        ValueError: it is not JSON, or holds too much.
    """
    check(document, max_values)
    loaded: object = orjson.loads(document)
    return loaded
