"""The shape of an answer: classical or simplified JSON, or XML (docs/platform/gateway.md 1.6, 1.7)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from xml.sax.saxutils import escape

import orjson

from topsync.simulator.errors import ApiError
from topsync.simulator.wire import JsonObject

ERROR_ROOT = "error_response"

_KEPT_ROOTS = 64
"""More than there are methods."""


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """The form of answer that the caller asks for. XML is the platform's default."""

    json: bool = False
    simplify: bool = False

    @property
    def content_type(self) -> str:
        """Media type of the body."""
        return f"{'application/json' if self.json else 'text/xml'};charset=UTF-8"


@lru_cache(maxsize=_KEPT_ROOTS)
def root_of(method: str) -> str:
    """`taobao.trade.fullinfo.get` answers under `trade_fullinfo_get_response`."""
    return f"{method.removeprefix('taobao.').replace('.', '_')}_response"


def success(shape: AnswerShape, method: str, answer: JsonObject, request_id: str) -> bytes:
    """The body of an answer."""
    body = {**answer, "request_id": request_id}
    if shape.json and shape.simplify:
        return orjson.dumps(_flattened(body))
    return _write(shape, root_of(method), body)


def failure(shape: AnswerShape, error: ApiError, business_code: int, request_id: str) -> bytes:
    """The body of a refusal."""
    body: JsonObject = {"code": business_code if error.code is None else int(error.code), "msg": error.msg}
    if error.sub_code is not None:
        body["sub_code"] = error.sub_code
    if error.sub_msg is not None:
        body["sub_msg"] = error.sub_msg
    body["request_id"] = request_id
    return _write(shape, ERROR_ROOT, body)


def _write(shape: AnswerShape, root: str, body: JsonObject) -> bytes:
    if shape.json:
        return orjson.dumps({root: body})
    return f'<?xml version="1.0" encoding="utf-8" ?>{_xml(root, body)}'.encode()


def _flattened(value: object) -> object:
    """A copy in which lists have no item level."""
    if isinstance(value, list):
        return [_flattened(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and isinstance(only := next(iter(value.values())), list):
        return _flattened(only)
    return {key: _flattened(item) for key, item in value.items()}


def _xml(name: str, value: object) -> str:
    if isinstance(value, list):
        return "".join(_xml(name, item) for item in value)
    if isinstance(value, dict):
        inner = "".join(_xml(key, item) for key, item in value.items())
        return f"<{name}>{inner}</{name}>"
    text = str(value).lower() if isinstance(value, bool) else escape(str(value))
    return f"<{name}>{text}</{name}>"
