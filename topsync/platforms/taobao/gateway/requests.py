"""Calls of the gateway as forms and bytes: building and signing. No I/O.

Source: docs/platform/gateway.md 1.2 to 1.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Final
from urllib.parse import quote_plus

from schemas import platform_time
from topsync.platforms.taobao.gateway.sign import SignMethod, sign

Parameter = str | int | bool | datetime | Sequence[str] | None
"""An application parameter; a sequence becomes a comma-separated list, an instant GMT+8 text."""

SYSTEM_PARAMETERS: Final = frozenset(
    ("method", "app_key", "session", "timestamp", "format", "v", "sign_method", "sign")
)
"""The parameters that every call has besides those of its API (docs/platform/gateway.md 1.3)."""

QUOTED_TEXTS: Final = 256
"""How many quoted texts are cached: `fields` is long, and the same in each call."""


class Read(Enum):
    """How long an answer may take."""

    SINGLE = "single"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A call: the API's name and its application parameters. Parameters stay out of the repr."""

    api: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict, repr=False)
    read: Read = Read.SINGLE


def form(
    request: ApiRequest,
    *,
    app_key: str,
    app_secret: str,
    session: str | None,
    now: datetime,
    sign_method: SignMethod,
) -> dict[str, str]:
    """All parameters of the POST body, system and application, with the signature.

    Empty values are never sent: SDKs disagree on whether they are signed (docs/platform/gateway.md 1.4).
    `now` is server time; its text is GMT+8.

    Raises:
        ValueError: a parameter has the name of a system parameter.
        TypeError: a parameter's type has no text form; a float has none.
    """
    sent = {
        "method": request.api,
        "app_key": app_key,
        "timestamp": platform_time.format(now),
        "format": "json",
        "v": "2.0",
        "sign_method": sign_method.value,
    }
    if session:
        sent["session"] = session
    if not SYSTEM_PARAMETERS.isdisjoint(request.parameters):
        taken = sorted(SYSTEM_PARAMETERS.intersection(request.parameters))
        raise ValueError(f"system parameters cannot be given: {', '.join(taken)}")
    for name, value in request.parameters.items():
        if text := parameter_text(value):
            sent[name] = text
    sent["sign"] = sign(sent, app_secret, sign_method)
    return sent


def encoded(form: Mapping[str, str]) -> bytes:
    """A form as the body of a POST, `application/x-www-form-urlencoded` in UTF-8."""
    return "&".join([f"{_quote(name)}={_quoted(text)}" for name, text in form.items()]).encode("ascii")


def parameter_text(value: Parameter) -> str:
    """The text form of a parameter; None and empty values give an empty text, which is not sent.

    Raises:
        TypeError: the type has no text form.
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value)
        case datetime():
            return platform_time.format(value)
        case list() | tuple():
            return ",".join(value)
    raise TypeError(f"a parameter cannot be a {type(value).__name__}")


def _quoted(text: str) -> str:
    # Ids, sessions and signatures differ in each call: they must not push other texts out of the cache.
    return text if text.isalnum() and text.isascii() else _quote(text)


@lru_cache(maxsize=QUOTED_TEXTS)
def _quote(text: str) -> str:
    return quote_plus(text)
