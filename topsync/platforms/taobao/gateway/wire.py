"""Requests and answers of the gateway as text and bytes: building, signing, reading. No I/O.

Source: docs/platform/gateway.md 1.2 to 1.7 and 5.1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Final, NoReturn
from urllib.parse import quote_plus

import orjson

from schemas import platform_time
from schemas.types import parse_id, parse_instant
from topsync.base import json_bounds
from topsync.base.json_bounds import TooManyValuesError
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    ErrorAnswer,
    FailureKind,
    TransportError,
)
from topsync.platforms.taobao.gateway.sign import SignMethod, sign

Parameter = str | int | bool | datetime | Sequence[str] | None
"""An application parameter; a sequence becomes a comma-separated list, an instant GMT+8 text."""

SYSTEM_PARAMETERS: Final = frozenset(
    ("method", "app_key", "session", "timestamp", "format", "v", "sign_method", "sign")
)
"""The parameters that every call has besides those of its API (docs/platform/gateway.md 1.3)."""

MAX_DEPTH: Final = 100
"""An answer has about ten levels. JSON that is nested far deeper can be read, but not written again."""

QUOTED_TEXTS: Final = 256
"""How many quoted texts are cached: `fields` is long, and the same in each call."""

_BOM: Final = b"\xef\xbb\xbf"
_HTTP_OK: Final = 200


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


def root_key(api: str) -> str:
    """`taobao.trade.fullinfo.get` → `trade_fullinfo_get_response`; other prefixes are kept (1.6)."""
    return api.removeprefix("taobao.").replace(".", "_") + "_response"


def parse(api: str, status: int, content_type: str, body: bytes) -> Mapping[str, object] | ErrorAnswer:
    """The object under the expected root, or the `error_response`.

    API errors come with status 200; any other status is a transport failure, and its body is ignored.

    Raises:
        TransportError: the status is not 200.
        BadAnswerError: the body is not JSON even for a tolerant parser, lacks the expected root, or holds too
            many values.
    """
    if status != _HTTP_OK:
        raise TransportError(f"HTTP status {status}", api=api, kind=FailureKind.HTTP_STATUS)
    try:
        document = loads(body)
    except TooManyValuesError as error:
        raise BadAnswerError(f"the answer holds {error}", api=api) from None
    except ValueError:
        described = content_type.partition(";")[0][:60] or "no type"
        raise BadAnswerError(f"{len(body)} bytes of {described} are not JSON", api=api) from None
    if not isinstance(document, dict):
        raise BadAnswerError("the answer is not an object", api=api)
    if not is_absent(refusal := document.get("error_response")):
        return error_answer(api, refusal)
    answer = document.get(root_key(api))
    if not isinstance(answer, dict):
        raise BadAnswerError(f"the answer has no object {root_key(api)}", api=api)
    return answer


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


def is_absent(value: object) -> bool:
    """Whether a field has no value: left out, null or an empty text (docs/platform/gateway.md 1.6).

    Not for free text, because there an empty text may be a value.
    """
    return value is None or value == ""


def items(answer: Mapping[str, object], plural: str, item: str) -> list[Mapping[str, object]]:
    """The objects of a list in any of its shapes: `items(answer, "trades", "trade")`.

    An empty list is an absent key, null, an empty text, `{}` or `[]`; one element may come without its array;
    with `simplify` the item level is missing (docs/platform/gateway.md 1.6).

    Raises:
        BadAnswerError: it holds something that is not an object.
    """
    value = answer.get(plural)
    if isinstance(value, Mapping):
        if value and item not in value:
            raise BadAnswerError(f"{plural} holds no {item}")
        value = value.get(item)
    if is_absent(value):
        return []
    found = value if isinstance(value, list) else [value]
    objects = [element for element in found if isinstance(element, Mapping)]
    if len(objects) != len(found):
        raise BadAnswerError(f"{plural}.{item} is not a list of objects")
    return objects


def texts(answer: Mapping[str, object], plural: str) -> list[str]:
    """The texts of a list such as `{"topics": {"string": [...]}}`; like `items`, absent or flat too (1.6).

    Raises:
        BadAnswerError: it holds something that is not a text.
    """
    value = answer.get(plural)
    if isinstance(value, Mapping):
        value = value.get("string")
    if is_absent(value):
        return []
    found = value if isinstance(value, list) else [value]
    elements = [element for element in found if isinstance(element, str)]
    if len(elements) != len(found):
        raise BadAnswerError(f"{plural} is not a list of texts")
    return elements


def object_in(answer: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The object of that name.

    Raises:
        BadAnswerError: there is none.
    """
    value = answer.get(name)
    if not isinstance(value, Mapping):
        raise BadAnswerError(f"the answer has no {name}", body=dumps(answer))
    return value


def trade_in(document: object) -> Mapping[str, object]:
    """A trade from an export or a batch: within its envelope, within `{"trade": ...}`, or bare (4.3, 4.4).

    Raises:
        ValueError: there is no object in that place.
    """
    for key in ("trade_fullinfo_get_response", "trade"):
        if isinstance(document, Mapping) and not is_absent(inner := document.get(key)):
            document = inner
    if not isinstance(document, Mapping):
        raise ValueError("not an object")
    return document


def as_id(value: object) -> int:
    """An id from a JSON number or digits in text; never from a float, which has lost digits.

    Raises:
        BadAnswerError: it is not a 64-bit id.
    """
    try:
        return parse_id(value)
    except ValueError as error:
        raise BadAnswerError(str(error)) from None


def as_instant(value: object) -> datetime:
    """The UTC instant of a platform time.

    Raises:
        BadAnswerError: it is not a platform time.
    """
    try:
        return parse_instant(value)
    except ValueError as error:
        raise BadAnswerError(str(error)) from None


def as_optional_instant(value: object) -> datetime | None:
    """As `as_instant`; None where there is no value.

    Raises:
        BadAnswerError: there is a value that is not a platform time.
    """
    return None if is_absent(value) else as_instant(value)


def as_text(value: object) -> str:
    """A text; empty where there is none. Another value becomes the text that Python's `str` makes of it."""
    return "" if value is None else str(value)


def as_count(value: object) -> int:
    """A count from a JSON number or digits in text.

    Raises:
        BadAnswerError: it is neither.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(2**63)):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadAnswerError(f"not a count: {type(value).__name__}")
    return value


def as_bool(value: object) -> bool:
    """A boolean, also as the text `true` or `false` (docs/platform/gateway.md 5.1).

    Raises:
        BadAnswerError: it is neither.
    """
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise BadAnswerError(f"not a boolean: {type(value).__name__}")


def _quoted(text: str) -> str:
    # Ids, sessions and signatures differ in each call: they must not push other texts out of the cache.
    return text if text.isalnum() and text.isascii() else _quote(text)


@lru_cache(maxsize=QUOTED_TEXTS)
def _quote(text: str) -> str:
    return quote_plus(text)


def error_answer(api: str, error: object) -> ErrorAnswer:
    """The error under `error_response`, or in its place.

    Raises:
        BadAnswerError: it is not an object, or has no code.
    """
    if not isinstance(error, Mapping):
        raise BadAnswerError("error_response is not an object", api=api)
    texts = {name: error.get(name) for name in ("sub_code", "msg", "sub_msg", "request_id")}
    sub_code, msg, sub_msg, request_id = (str(text) if text else None for text in texts.values())
    return ErrorAnswer(as_count(error.get("code")), sub_code, msg or "", sub_msg or "", request_id)


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
