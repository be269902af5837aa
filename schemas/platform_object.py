"""The base of all objects of the platform: known fields are typed, everything else is carried unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Self

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from schemas import validation
from schemas.opaque import Opaque, has_storable_texts, storable_fields
from schemas.usual_form import ODD, UsualForm


class UnreadableError(ValueError):
    """An object lacks what each of its kind must have. The text names fields and problems, never values."""

    def __init__(self, text: str, *, is_incomplete: bool = False) -> None:
        super().__init__(text)
        self.is_incomplete = is_incomplete
        """Whether only something is missing: the platform may show it later."""


class UnreadContent(Mapping[str, Any]):
    """The JSON of an object of which some fields were handed over: it is read when others are asked for.

    That is so of hardly any order of a bulk start. Raises UnreadableError if it is no object as on the wire.
    """

    __slots__ = ("_head", "_model", "_text", "_whole")

    def __init__(self, model: type[PlatformObject], head: Mapping[str, Any], text: str) -> None:
        self._model = model
        self._head = head
        self._text = text
        self._whole: Mapping[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 -- JSON
        return self._head[name] if name in self._head else self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _read(self) -> Mapping[str, Any]:
        if self._whole is None:
            try:
                self._whole = self._model.content_of(self._text)
            except ValueError:
                raise UnreadableError("what was handed on is no object as on the wire") from None
        return self._whole


@dataclass(frozen=True, slots=True)
class WireForm:
    """An object as on the wire: absent fields are left out, amounts and times are text."""

    model: type[PlatformObject]
    content: Mapping[str, Any] = field(repr=False)
    """Its JSON, read."""
    text: str = field(repr=False)
    """Its JSON, as topic and table have it."""
    may_be_odd: bool = field(default=True, repr=False, compare=False)
    """Whether it, or a part of it, may have fields that nobody asked for."""
    content_hash: bytes | None = field(default=None, repr=False, compare=False)
    """Its digest (`schemas.content`), where that is known already."""
    happened: tuple[str, ...] | None = field(default=None, repr=False, compare=False)
    """What must have happened before it was so (`schemas.delta`), where that is known already."""

    def id(self, name: str) -> int:
        """The value of a field that holds an id."""
        return int(self.content[name])

    def time(self, name: str) -> datetime:
        """The value of a field that holds a moment."""
        return datetime.fromisoformat(self.content[name])


class PlatformObject(BaseModel):
    """A platform object: known fields typed, everything else under `platform_fields`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    unreadable: ClassVar[type[UnreadableError]] = UnreadableError
    """The error that `from_platform` raises."""
    indispensable: ClassVar[frozenset[str]] = frozenset()
    """Fields that are optional in the contract, but without which the platform's object is unreadable: if
    they are absent, empty, which means the same to the platform (docs/platform/gateway.md 1.6), or of an
    unknown shape.
    """
    carried: ClassVar[frozenset[str]] = frozenset()
    """Fields that the platform documents and we carry under `platform_fields`. Other fields there are
    unknown."""
    not_content: ClassVar[frozenset[str]] = frozenset()
    """Fields whose change alone does not change the object (`schemas.content`)."""
    left_out: ClassVar[frozenset[str]] = frozenset()
    """Fields that the platform sometimes leaves out although they have a value.

    Source: docs/platform/gateway.md 6.3.
    """
    opaque: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Fields below that hold lists of objects in the platform's own form, each with the fields of such an
    object that are known."""
    head: ClassVar[frozenset[str]] = frozenset()
    """Fields that are enough to store and publish an object of which nothing was known: whoever has read it
    hands them over beside it (`schemas.read_before`).
    """
    parts: ClassVar[Mapping[str, type[PlatformObject]]] = {}
    """Fields below that hold objects, which are read like this object."""
    typed: ClassVar[frozenset[str]]
    """The names of all fields below except the first."""
    never_empty: ClassVar[frozenset[str]]
    """The typed fields in which an empty text means absent: all except texts."""
    known: ClassVar[frozenset[str]]
    """The typed and the carried fields."""
    counted: ClassVar[frozenset[str]]
    """The known fields that are content."""
    on_the_wire: ClassVar[frozenset[str]]
    """All fields that an object may have there, and `always_there` those that each has."""
    always_there: ClassVar[frozenset[str]]
    usual: ClassVar[UsualForm]
    """The form in which nearly all objects come."""

    platform_fields: dict[str, Opaque] = Field(default_factory=dict)
    """What the platform sent beyond the fields above, unchanged, keys sorted."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        """Compute once what reading an object needs."""
        super().__pydantic_init_subclass__(**kwargs)
        cls.typed = frozenset(cls.model_fields) - {"platform_fields"}
        texts = {name for name, field in cls.model_fields.items() if field.annotation in (str, str | None)}
        cls.never_empty = cls.typed - texts
        cls.known = cls.typed | cls.carried
        cls.counted = cls.known - cls.not_content
        cls.on_the_wire = frozenset(cls.model_fields)
        cls.always_there = frozenset(
            name
            for name, field in cls.model_fields.items()
            if field.get_default(call_default_factory=True) is not None
        )

        cls.usual = UsualForm(cls.model_fields, cls.indispensable, cls.carried, cls.opaque)

    @classmethod
    def read(cls, raw: Mapping[str, object]) -> WireForm:
        """What is written of a platform object: what `from_platform(raw).form()` gives, and raises.

        Nearly always it is of the usual form, and no model is needed to know it.
        """
        odd_before = ODD.met
        if (written := cls.usual.write(raw)) is not None:
            try:
                text = orjson.dumps(written)  # refuses lone surrogates
            except TypeError:
                pass
            else:
                if b"\\u0000" not in text:
                    return WireForm(cls, written, text.decode(), may_be_odd=ODD.met != odd_before)
        return cls.from_platform(raw).form()

    @classmethod
    def from_platform(cls, raw: Mapping[str, object]) -> Self:
        """Read a platform object; an optional field of an unknown shape is kept as it came.

        Raises:
            UnreadableError: a required or indispensable field is missing or unreadable, here or in an inner
                object. `unreadable` names the subclass.
        """
        try:
            read = cls.model_validate(raw if has_storable_texts(raw) else storable_fields(raw))
        except ValidationError as error:
            missing = all(problem["type"] == "missing" for problem in error.errors(include_url=False))
            raise cls._unreadable(validation.problems(error), is_incomplete=missing) from None
        except ValueError as error:
            raise cls._unreadable(str(error)) from None
        if absent := sorted(name for name in cls.indispensable if not getattr(read, name)):
            raise cls._unreadable(f"{', '.join(absent)}: missing", is_incomplete=True)
        return read

    @classmethod
    def _unreadable(cls, problem: str, *, is_incomplete: bool = False) -> UnreadableError:
        return cls.unreadable(f"unreadable {cls.__name__.lower()}: {problem}", is_incomplete=is_incomplete)

    @classmethod
    def content_of(cls, text: str) -> Mapping[str, Any]:
        """The JSON of an object as on the wire, read.

        Raises:
            ValueError: it is none.
        """
        written = orjson.loads(text)
        if not isinstance(written, dict) or not cls.always_there <= written.keys() <= cls.on_the_wire:
            raise ValueError(f"no {cls.__name__.lower()} as on the wire")
        return written

    @classmethod
    def from_wire(cls, value: bytes | str) -> Self:
        """Read a record of the topic, with all fields that this release knows."""
        return cls.model_validate_json(value)

    @classmethod
    def reread(cls, value: bytes | str) -> dict[str, Any]:
        """What `from_wire(value).to_json()` gives: a record of the topic as this release would write it.

        Nearly always it is as it was written, and no model is needed to know it.
        """
        written: dict[str, Any] = orjson.loads(value)
        return written if cls.is_written_as_now(written) else cls.from_wire(value).to_json()

    @classmethod
    def is_written_as_now(cls, written: Mapping[str, Any]) -> bool:
        """Whether it has the fields of this release, and carries none that this release knows."""
        if not cls.always_there <= written.keys() <= cls.on_the_wire:
            return False
        if not cls.typed.isdisjoint(written["platform_fields"]):
            return False
        for name, part in cls.parts.items():
            value = written.get(name)
            rows = value if isinstance(value, list) else [] if value is None else [value]
            if not all(map(part.is_written_as_now, rows)):
                return False
        return True

    def to_json(self) -> dict[str, Any]:
        """The object as on the wire, parsed: absent fields are left out, amounts and times are text."""
        return self.model_dump(mode="json", exclude_none=True)

    def form(self) -> WireForm:
        """The object as on the wire, in both forms."""
        written = self.to_json()
        return WireForm(type(self), written, wire(written))

    def to_wire(self) -> str:
        """The JSON value of the topic and of the table."""
        return wire(self.to_json())

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_is_not_understood(cls, data: object, read: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, Mapping):
            return read(data)
        return cls._read(_with_what_is_known_now(data, cls.typed), read)

    @classmethod
    def _read(cls, data: Mapping[str, object], read: ModelWrapValidatorHandler[Self]) -> Self:
        aside = _beyond(data, cls.typed)
        try:
            return read({**data, "platform_fields": aside})
        except ValidationError as error:
            # Required fields, too, may have a form that means absent: then they are missing, not malformed.
            storable = storable_fields(data)
            tidy = {name: value for name, value in storable.items() if not cls._is_absent(name, value)}
            if tidy != data:
                return cls._read(tidy, read)
            odd = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
            if not odd or any(name not in cls._optional_fields() for name in odd):
                raise
        # An optional field of an unknown shape: keep its value without interpreting it.
        known = {name: value for name, value in data.items() if name not in odd}
        aside.update((name, data[name]) for name in odd)
        return read({**known, "platform_fields": dict(sorted(aside.items()))})

    @classmethod
    def _is_absent(cls, name: str, value: object) -> bool:
        """Whether a value means an absent field: null, or an empty text in a field that is not a text."""
        return value is None or (value == "" and name in cls.never_empty)

    @classmethod
    def _optional_fields(cls) -> set[str]:
        return {
            name for name, field in cls.model_fields.items() if not field.is_required()
        } - cls.indispensable


def wire(written: Mapping[str, Any]) -> str:
    """The text on the wire of an object from `to_json`."""
    return orjson.dumps(written).decode()


def _with_what_is_known_now(data: Mapping[str, object], typed: frozenset[str]) -> Mapping[str, object]:
    """Make fields of what an earlier release carried under `platform_fields` and this release knows."""
    kept = data.get("platform_fields")
    if not isinstance(kept, dict) or typed.isdisjoint(kept):
        return data
    known = {name: value for name, value in kept.items() if name in typed and name not in data}
    rest = {name: value for name, value in kept.items() if name not in known}
    return {**known, **data, "platform_fields": rest}


def _beyond(data: Mapping[str, object], typed: frozenset[str]) -> dict[str, object]:
    """Everything except the typed fields, sorted; a null is the same as an absent field."""
    unknown = sorted([name for name in data if name not in typed])
    aside = {name: data[name] for name in unknown if data[name] is not None}
    kept = aside.pop("platform_fields", None)
    return dict(sorted({**aside, **kept}.items())) if isinstance(kept, dict) else aside
