"""JSON as the platform writes it (docs/platform/gateway.md 1.6). No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, NoReturn

import orjson

from topsync.base import json_bounds

MAX_DEPTH: Final = 100
"""An answer has about ten levels. JSON that is nested far deeper can be read, but not written again."""

_BOM: Final = b"\xef\xbb\xbf"


def loads(body: bytes) -> object:
    """JSON as the platform writes it (docs/platform/gateway.md 1.6), for answers and for lines of an export.

    Raw control characters are accepted; bytes that are not UTF-8 and lone surrogates become U+FFFD, so
    that the result can be stored. A number with a fraction is money and is returned as text, with the
    digits that were sent; integers keep every digit.

    Raises:
        ValueError: it is not JSON, nested more than `MAX_DEPTH` levels deep, or holds too many values
            (`TooManyValuesError`).
    """
    json_bounds.check(body)
    body = body.removeprefix(_BOM)
    try:
        document: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _loads_tolerantly(body)
    # orjson also reads an integer beyond 64 bits as a float; the slower parser keeps its digits.
    return _loads_tolerantly(body) if _holds_float(document) else document


def dumps(value: object) -> bytes:
    """JSON of what `loads` has read."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _loads_tolerantly(body: bytes) -> object:
    try:
        document: object = json.loads(
            body.decode("utf-8", "replace"), strict=False, parse_float=str, parse_constant=_no_constant
        )
        return _encodable(document)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _holds_float(document: object) -> bool:
    """Whether orjson has read any number as a float. Runs over every answer, so it avoids recursion.

    Raises:
        ValueError: it is nested too deeply.
    """
    level: list[Iterable[object]] = [(document,)]
    for _ in range(MAX_DEPTH + 1):
        pending, level = level, []
        for values in pending:
            # Parsed JSON has no subclasses, so exact types are enough; most values then need no further step.
            types = {*map(type, values)}
            if float in types:
                return True
            if dict in types or list in types:
                for value in values:
                    if type(value) is dict:
                        level.append(value.values())
                    elif type(value) is list:
                        level.append(value)
        if not level:
            return False
    raise ValueError("nested too deeply")


def _encodable(value: object, levels: int = MAX_DEPTH) -> object:
    """The value with U+FFFD in place of lone surrogates, which UTF-8 cannot hold."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict() | list() if not levels:
            raise ValueError("nested too deeply")
        case dict():
            return {_encodable(name): _encodable(item, levels - 1) for name, item in value.items()}
        case list():
            return [_encodable(item, levels - 1) for item in value]
    return value
