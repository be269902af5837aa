"""Answers of the gateway: what they hold, and its values read as types of ours. No I/O.

Source: docs/platform/gateway.md 1.6, 1.7 and 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from schemas.types import parse_id, parse_instant
from topsync.base.json_bounds import TooManyValuesError
from topsync.platforms.taobao.gateway import platform_json
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    ErrorAnswer,
    FailureKind,
    TransportError,
)

_HTTP_OK: Final = 200


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
        document = platform_json.loads(body)
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
    if isinstance(value, dict):
        if value and item not in value:
            raise BadAnswerError(f"{plural} holds no {item}")
        value = value.get(item)
    found = _as_list(value)
    objects: list[Mapping[str, object]] = [element for element in found if isinstance(element, dict)]
    if len(objects) != len(found):
        raise BadAnswerError(f"{plural}.{item} is not a list of objects")
    return objects


def texts(answer: Mapping[str, object], plural: str) -> list[str]:
    """The texts of a list such as `{"topics": {"string": [...]}}`; like `items`, absent or flat too (1.6).

    Raises:
        BadAnswerError: it holds something that is not a text.
    """
    value = answer.get(plural)
    if isinstance(value, dict):
        value = value.get("string")
    found = _as_list(value)
    elements = [element for element in found if isinstance(element, str)]
    if len(elements) != len(found):
        raise BadAnswerError(f"{plural} is not a list of texts")
    return elements


def _as_list(value: object) -> list[object]:
    if is_absent(value):
        return []
    return value if isinstance(value, list) else [value]


def object_in(answer: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The object of that name.

    Raises:
        BadAnswerError: there is none.
    """
    value = answer.get(name)
    if not isinstance(value, dict):
        raise BadAnswerError(f"the answer has no {name}", body=platform_json.dumps(answer))
    return value


def trade_in(document: object) -> Mapping[str, object]:
    """A trade from an export or a batch: within its envelope, within `{"trade": ...}`, or bare (4.3, 4.4).

    Raises:
        ValueError: there is no object in that place.
    """
    return unwrapped(document, ("trade_fullinfo_get_response", "trade"))


def unwrapped(document: object, envelopes: tuple[str, ...]) -> Mapping[str, object]:
    """The object within those envelopes that are there, the outermost first.

    Raises:
        ValueError: there is no object in that place.
    """
    for key in envelopes:
        if isinstance(document, dict) and not is_absent(inner := document.get(key)):
            document = inner
    if not isinstance(document, dict):
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


def as_optional_text(value: object) -> str | None:
    """A text; None where there is none, or another value."""
    return value if isinstance(value, str) else None


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


def error_answer(api: str, error: object) -> ErrorAnswer:
    """The error under `error_response`, or in its place.

    Raises:
        BadAnswerError: it is not an object, or has no code.
    """
    if not isinstance(error, dict):
        raise BadAnswerError("error_response is not an object", api=api)
    texts = {name: error.get(name) for name in ("sub_code", "msg", "sub_msg", "request_id")}
    sub_code, msg, sub_msg, request_id = (str(text) if text else None for text in texts.values())
    return ErrorAnswer(as_count(error.get("code")), sub_code, msg or "", sub_msg or "", request_id)
