"""The parameters of a call, from its query string and its body (docs/platform/gateway.md 1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from email import policy
from email.parser import BytesParser
from functools import lru_cache
from urllib.parse import unquote_plus

from aiohttp import hdrs, web

MAX_PARAMETERS = 200

_KEPT_VALUES = 1024
_LONGEST_KEPT = 4096
"""Texts to cache: values that come with thousands of calls, such as the fields, are decoded once."""


class TooManyParametersError(ValueError):
    """A call with more parameters than any client sends."""


def of_request(request: web.BaseRequest, body: bytes) -> dict[str, str]:
    """The parameters of a request.

    Raises:
        TooManyParametersError: there are more than MAX_PARAMETERS.
    """
    content_type = request.headers.get(hdrs.CONTENT_TYPE, "")
    return of_call(request.rel_url.raw_query_string, content_type, body)


def of_call(query: str, content_type: str, body: bytes) -> dict[str, str]:
    """Query string (as it was sent, without the question mark) and body merged; the body wins.

    Raises:
        TooManyParametersError: there are more than MAX_PARAMETERS.
    """
    parameters = decoded(query) if query else {}
    if content_type.startswith("multipart/"):
        parameters.update(_texts_of_form(content_type, body))
    elif body:
        parameters.update(decoded(body.decode("utf-8", errors="replace")))
    return parameters


def decoded(text: str) -> dict[str, str]:
    """The same as urllib.parse.parse_qsl, empty values included, but five times as fast.

    Raises:
        TooManyParametersError: there are more than MAX_PARAMETERS.
    """
    if text.count("&") >= MAX_PARAMETERS:
        raise TooManyParametersError(f"more than {MAX_PARAMETERS} parameters")
    pairs: dict[str, str] = {}
    for pair in text.split("&"):
        name, _, value = pair.partition("=")
        if "%" in pair or "+" in pair:
            name, value = _unquoted(name), _unquoted(value)
        if pair:
            pairs[name] = value
    return pairs


def _unquoted(text: str) -> str:
    return _kept(text) if len(text) <= _LONGEST_KEPT else unquote_plus(text)


_kept = lru_cache(maxsize=_KEPT_VALUES)(unquote_plus)


def _texts_of_form(content_type: str, body: bytes) -> Iterator[tuple[str, str]]:
    """The parts of a form, without files: their contents are no parameters and are not signed."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("utf-8", errors="surrogateescape")
    form = BytesParser(policy=policy.HTTP).parsebytes(head + body)
    for part in form.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes) and part.get_filename() is None:
            yield name, content.decode("utf-8", errors="replace")
