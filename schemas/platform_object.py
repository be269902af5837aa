"""What every object of the platform is read with: known fields typed, everything else carried unchanged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Self

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)


class UnreadableError(ValueError):
    """An object lacks what each of its kind must have. The text names fields and problems, never values."""


class PlatformObject(BaseModel):
    """A platform object: known fields typed, everything else under `platform_fields`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    unreadable: ClassVar[type[UnreadableError]] = UnreadableError
    """What `from_platform` raises."""
    indispensable: ClassVar[frozenset[str]] = frozenset()
    """Optional fields that make the object unreadable when they come in a shape of their own."""

    platform_fields: dict[str, object] = Field(default_factory=dict)
    """What the platform sent beyond the fields above, unchanged, keys sorted."""

    @classmethod
    def from_platform(cls, raw: Mapping[str, object]) -> Self:
        """Read a platform object; an optional field with a shape of its own is kept as it came.

        Raises:
            UnreadableError: a required field is missing or unreadable, also in an object within it. Which
                subclass, `unreadable` says.
        """
        try:
            return cls.model_validate(raw if _is_storable(raw) else _storable(raw))
        except ValidationError as error:
            problems = (
                f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_input=False)
            )
            raise cls.unreadable(f"unreadable {cls.__name__.lower()}: " + "; ".join(problems)) from None

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_is_not_understood(cls, data: object, read: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, Mapping):
            return read(data)
        known, aside = _split(data, cls.model_fields)
        try:
            return read({**known, "platform_fields": aside} if aside else known)
        except ValidationError as error:
            odd = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
            if not odd or any(name not in cls._optional_fields() for name in odd):
                raise
        # An optional field in a shape of its own: keep its value without claiming to understand it.
        aside = dict(sorted({**aside, **{name: known.pop(name) for name in odd}}.items()))
        return read({**known, "platform_fields": aside})

    @classmethod
    def _optional_fields(cls) -> set[str]:
        return {
            name for name, field in cls.model_fields.items() if not field.is_required()
        } - cls.indispensable


def list_of(item: str) -> BeforeValidator:
    """The platform's `{"order": [...]}` flattened; absent, null, {} and a lone object are accepted (1.6)."""

    def flatten(value: object) -> object:
        if value is None:
            return []
        if isinstance(value, Mapping):
            value = value.get(item, [])
        return value if isinstance(value, list) else [value]

    return BeforeValidator(flatten)


def _split(
    data: Mapping[str, object], fields: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """Known fields, and the sorted rest; a null is the same as an absent field."""
    known: dict[str, object] = {}
    rest: dict[str, object] = {}
    for name, value in data.items():
        if value is not None:
            (known if name in fields else rest)[name] = value
    kept = known.pop("platform_fields", None)
    if isinstance(kept, Mapping):
        rest.update(kept)
    return known, dict(sorted(rest.items()))


def _is_storable(raw: Mapping[str, object]) -> bool:
    """Whether `_storable` would change nothing; says no where it is not sure. Nearly all objects are.

    Found out from the object's text, since looking at each value costs as much as all the rest of reading.
    """
    try:
        text = orjson.dumps(raw)  # refuses lone surrogates, and most integers beyond 64 bits
    except TypeError:
        return False
    return b"\\u0000" not in text and _MAYBE_BEYOND_64_BITS.search(text) is None


_MAYBE_BEYOND_64_BITS = re.compile(rb"[:\[,]-?(?:9\d{18}|\d{20})")


def _storable(value: object) -> object:
    """The value as UTF-8, JSON and PostgreSQL can hold it.

    NUL and lone surrogates become U+FFFD; an integer beyond 64 bits becomes text, or readers would lose its
    digits.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, str):
        if "\x00" in value:
            value = value.replace("\x00", "\ufffd")
        if not value.isascii():
            value = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        return value
    if isinstance(value, Mapping):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
