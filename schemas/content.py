"""What of an object counts as its content: two states with the same content are one version.

The platform sends more than anybody asked for, and not always the same fields. So content is what is *known*:
the typed fields and those that a kind names as carried. Unknown fields are carried beside it and make no
version. The forms in which the platform writes a value of its own shape make no version either: numbers come
as digits, and a list with a single element as that element (docs/platform/gateway.md 0, warning 2, and 1.6).

Objects are taken as they are on the wire, read (`PlatformObject.to_json`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from schemas.platform_object import PlatformObject, WireForm

HASH_BYTES: Final = 16

Object = Mapping[str, Any]

_OF_ONE_FORM: Final = frozenset({str, bool})


def content_hash(kind: type[PlatformObject], written: Object) -> bytes:
    """Digest of an object's content."""
    return _digest(_content(kind, written))


def hash_of(form: WireForm) -> bytes:
    """The same of an object that was read."""
    return form.content_hash or content_hash(form.model, form.content)


def unknown_hash(kind: type[PlatformObject], written: Object) -> bytes:
    """Digest of an object's unknown fields; empty where there are no unknown fields."""
    unknown = _unknown(kind, written)
    return _digest(unknown) if unknown else b""


def says_no_more(kind: type[PlatformObject], answer: Object, known: Object) -> bool:
    """Whether a state says nothing that another state of the same moment does not.

    It is equal, or lacks beside it nothing but fields that the platform leaves out at times.
    """
    content = _content(kind, answer)
    return content == _as_far_as(content, kind, _content(kind, known))


def _content(kind: type[PlatformObject], written: Object) -> dict[str, Any]:
    # Runs for each order and line that is stored: it may only cost copies and look-ups in sets.
    content = {**written}
    for name in kind.not_content:
        content.pop(name, None)
    content["platform_fields"] = _counted(content["platform_fields"], kind.counted)
    for name, known in kind.opaque.items():
        if content.get(name):
            rows = [_counted(row, known) for row in content[name]]
            content[name] = rows[0] if len(rows) == 1 else rows
    for name, part in kind.parts.items():
        value = content.get(name)
        if isinstance(value, list):
            content[name] = [_content(part, element) for element in value]
        elif value is not None:
            content[name] = _content(part, value)
    return content


def _counted(fields: Object, known: frozenset[str]) -> Object:
    """Those of these fields that count, each in one form."""
    if known.issuperset(fields) and _OF_ONE_FORM.issuperset(map(type, fields.values())):
        return fields
    return {
        name: value if type(value) in _OF_ONE_FORM else _in_one_form(value)
        for name, value in fields.items()
        if name in known
    }


def _in_one_form(value: object) -> object:
    """A value of the platform's own shape, however it is written this time."""
    if type(value) is int:
        return str(value)
    if isinstance(value, dict):
        return {
            name: inner if type(inner) in _OF_ONE_FORM else _in_one_form(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        rows = [_in_one_form(row) for row in value]
        return rows[0] if len(rows) == 1 and isinstance(rows[0], dict) else rows
    return value


def _as_far_as(answer: Object, kind: type[PlatformObject], known: Object) -> dict[str, Any]:
    """What is known, without what may be left out and is not in the other state."""
    kept = {name: value for name, value in known.items() if name in answer or name not in kind.left_out}
    kept["platform_fields"] = {
        name: value
        for name, value in known["platform_fields"].items()
        if name in answer["platform_fields"] or name not in kind.left_out
    }
    for name, part in kind.parts.items():
        mine, other = kept.get(name), answer.get(name)
        if isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other):
            kept[name] = [_as_far_as(there, part, here) for here, there in zip(mine, other, strict=True)]
        elif isinstance(mine, Mapping) and isinstance(other, Mapping):
            kept[name] = _as_far_as(other, part, mine)
    return kept


def _unknown(kind: type[PlatformObject], written: Object) -> dict[str, Any]:
    carried = written["platform_fields"]
    unknown = {name: carried[name] for name in carried.keys() - kind.known}
    for name, part in kind.parts.items():
        value = written.get(name) or []
        rows = [_unknown(part, element) for element in (value if isinstance(value, list) else [value])]
        if any(rows):
            unknown[f"{name}."] = rows
    for name, known in kind.opaque.items():
        rows = [{field: row[field] for field in row.keys() - known} for row in written.get(name) or []]
        if any(rows):
            unknown[f"{name}."] = rows
    return unknown


def _digest(value: object) -> bytes:
    # Sorted, because PostgreSQL's jsonb keeps no order of keys and the platform promises none.
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=HASH_BYTES).digest()
