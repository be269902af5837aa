"""What a change of a JSON Schema means for readers of the values that it describes.

Records stay in a compacted topic for years, so both directions count: a subscriber written for the former
schema must be able to read new records, and a subscriber written for the new schema must be able to read old
records. Within a version only one change is allowed: to add a field that may be absent.

It understands the schemas that `schemas.json_schema` makes, not every possible schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

Schema = Mapping[str, object]

_SAYS_NOTHING = frozenset({"$schema", "$id", "$comment", "title", "description", "examples", "definitions"})
"""Keywords that restrict nothing."""

_STRUCTURE = frozenset({"properties", "required", "items", "enum", "const"})
"""Keywords that are compared by rules of their own."""


@dataclass(frozen=True, slots=True)
class ContractChange:
    """A difference between two schemas."""

    path: str
    """Where it is, e.g. `orders[].price`; empty for the whole value."""
    what: str
    breaks: str | None
    """Whom it breaks, and how; None when it breaks nobody."""

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.what}" + (f" -- {self.breaks}" if self.breaks else "")


def changes(old: Schema, new: Schema) -> list[ContractChange]:
    """All differences that a reader could notice; texts for people are ignored."""
    return list(_Comparison(old, new).of(old, new, ""))


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new

    def of(self, old: Schema, new: Schema, path: str) -> Iterator[ContractChange]:
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        yield from self._properties(old, new, path)
        yield from _values(old, new, path)
        if "items" in old or "items" in new:
            yield from self.of(_schema(old.get("items", {})), _schema(new.get("items", {})), f"{path}[]")
        for keyword in sorted((old.keys() | new.keys()) - _SAYS_NOTHING - _STRUCTURE):
            if _inlined(old.get(keyword), self._old) != _inlined(new.get(keyword), self._new):
                yield ContractChange(
                    path,
                    f"`{keyword}` was {_shown(old.get(keyword))} and is {_shown(new.get(keyword))}",
                    "readers of the old form do not understand the new form, and both are in the topic",
                )

    def _properties(self, old: Schema, new: Schema, path: str) -> Iterator[ContractChange]:
        before, after = _schema(old.get("properties", {})), _schema(new.get("properties", {}))
        was_required, is_required = _names(old.get("required", ())), _names(new.get("required", ()))
        for name in sorted(before.keys() | after.keys()):
            inner = f"{path}.{name}" if path else name
            if name not in after:
                yield ContractChange(inner, "removed", "readers of the field no longer find it")
            elif name not in before:
                yield _added(inner, required=name in is_required)
            else:
                yield from _presence(inner, was=name in was_required, is_=name in is_required)
                yield from self.of(_schema(before[name]), _schema(after[name]), inner)


def _added(path: str, *, required: bool) -> ContractChange:
    broken = "records that are already in the topic lack it: it must be optional" if required else None
    return ContractChange(path, "added" + (" as required" if required else ""), broken)


def _presence(path: str, *, was: bool, is_: bool) -> Iterator[ContractChange]:
    if was and not is_:
        yield ContractChange(
            path, "may be absent now", "readers that rely on the field fail where it is absent"
        )
    if is_ and not was:
        yield ContractChange(
            path, "is required now", "records in the topic may lack it: a reader that relies on it fails"
        )


def _values(old: Schema, new: Schema, path: str) -> Iterator[ContractChange]:
    before, after = _allowed(old), _allowed(new)
    if before == after:
        return
    if before is None or after is None:
        what = (
            "is bound to certain values now" if before is None else "is not bound to certain values any more"
        )
        yield ContractChange(
            path, what, "old readers do not know the new values, or new readers the old values"
        )
        return
    for value in before:
        if value not in after:
            yield ContractChange(
                path, f"the value {_shown(value)} is gone", "records with it are in the topic already"
            )
    for value in after:
        if value not in before:
            yield ContractChange(
                path,
                f"the value {_shown(value)} is new",
                "readers that know the former values do not expect it",
            )


def _allowed(schema: Schema) -> Sequence[object] | None:
    if "const" in schema:
        return [schema["const"]]
    return cast("Sequence[object] | None", schema.get("enum"))


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        _, _, name = str(schema["$ref"]).rpartition("/")
        schema = _schema(_schema(root["definitions"])[name])
    return schema


def _inlined(value: object, root: Schema) -> object:
    """A keyword's value with references resolved: `anyOf` and the like hold schemas themselves."""
    if isinstance(value, Mapping):
        return {
            name: _inlined(inner, root)
            for name, inner in _resolved(value, root).items()
            if name not in _SAYS_NOTHING or isinstance(inner, Mapping)  # a field may have such a name
        }
    if isinstance(value, list):
        return [_inlined(inner, root) for inner in value]
    return value


def _schema(value: object) -> Schema:
    return cast("Schema", value)


def _names(value: object) -> Sequence[str]:
    return cast("Sequence[str]", value)


def _shown(value: object) -> str:
    return "not there" if value is None else f"`{value}`"
