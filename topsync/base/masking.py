"""Keeps sessions, secrets and receivers' data out of the logs; it finds them by name or by value.

This is a second fence: no such value may be handed to a log call in the first place. Names are compared
without regard to case, `_` and `-`: at every level of what is logged, and in texts that have `name=value` or
`"name": "value"`. A process's own secrets are recognised by value, wherever they stand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

MASK: Final = "***"

MAX_DEPTH: Final = 8
"""Values that are nested deeper are not shown."""

_NAMES: Final = (
    *("session", "session_key", "top_session", "access_token", "refresh_token", "token", "token_keys"),
    *("secret", "app_secret", "client_secret", "sign", "password", "passwd", "pgpassword", "authorization"),
    "certificate_key",
    *("trade", "oaid"),
)
_PREFIXES: Final = ("receiver", "buyer")
_PLAIN_NAMES: Final = frozenset(name.replace("_", "") for name in _NAMES)

_SHORTEST_SECRET: Final = 6
"""A shorter value is not masked: it would be found in half of all words."""

_hidden: set[str] = set()

_NAME_IN_TEXT: Final = "|".join(
    [*(rf"{prefix}[\w-]*" for prefix in _PREFIXES), *(name.replace("_", "[_-]?") for name in _NAMES)]
)
_BARE: Final = r"""[^\s"'\\,;&(){}\[\]<>]+"""
_QUOTED: Final = r"""(?P<open{0}>\\*["']).*?(?<!\\)(?P=open{0})"""
# `name=value`, `"name": value` and `name: "value"` are data; `no session: run ...` is a sentence.
_ASSIGNED: Final = re.compile(
    rf"""
    (?<![\w-]) (?P<name>{_NAME_IN_TEXT}) (?![\w-])
    (?: (?P<sign>\\*["']?\s*=\s* | \\*["']\s*:\s*) (?: {_QUOTED.format(1)} | {_BARE} )
      | (?P<colon>\s*:\s*) {_QUOTED.format(2)} )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_IN_URL: Final = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")
_PYDANTIC_INPUT: Final = re.compile(r"\binput_value=.*?(?=, input_type=)", re.DOTALL)


def hide(secret: str) -> None:
    """Mask a value wherever it is logged from now on: a process's own few secrets, not each seller's."""
    if len(secret) >= _SHORTEST_SECRET:
        _hidden.add(secret)


def is_hidden(name: str) -> bool:
    """Whether a value with this name is never shown."""
    plain = name.replace("_", "").replace("-", "").lower()
    return plain in _PLAIN_NAMES or plain.startswith(_PREFIXES)


def mask(value: object, depth: int = 0) -> object:
    """A value as it may be logged: nested values are masked, an unknown object becomes its masked text."""
    if value is None or isinstance(value, bool | int | float | Decimal | date | timedelta | UUID):
        return value
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"  # as received, it may be anybody's order
    if depth >= MAX_DEPTH:
        return MASK
    if isinstance(value, Mapping):
        return {
            mask_text(str(name)): MASK if is_hidden(str(name)) else mask(inner, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [mask(inner, depth + 1) for inner in value]
    return mask_text(repr(value))


def mask_text(text: str) -> str:
    """A text with masks for values of hidden names, passwords in addresses and this process's secrets."""
    for secret in _hidden:
        text = text.replace(secret, MASK)
    if "=" not in text and ":" not in text:
        return text
    text = _IN_URL.sub(rf"\1:{MASK}@", text)
    text = _PYDANTIC_INPUT.sub(f"input_value={MASK}", text)
    return _ASSIGNED.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    opened = found["open1"] or found["open2"] or ""
    return f"{found['name']}{found['sign'] or found['colon']}{opened}{MASK}{opened}"
