"""The form in which the platform nearly always writes an object, and the direct way from there to the wire.

A model reads every form that the platform has used, and takes most of the time that an order costs. An object
whose fields are all of the usual form needs none: each field is written as its type says. Wherever anything
else comes, this way writes nothing, and the model decides (`PlatformObject.read`): the two never differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from math import isfinite
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Final, TypeAlias, get_args

from pydantic.fields import FieldInfo

from schemas.opaque import Opaque
from schemas.types import (
    KEPT_AMOUNT_CHARACTERS,
    KEPT_AMOUNTS,
    Count,
    Instant,
    ListOf,
    Milliseconds,
    Money,
    PlatformId,
    parse_id,
    parse_instant,
    parse_money,
    write_instant,
    write_money,
)

MAX_LEVELS: Final = 20
"""Levels of a value in the platform's own form. Usual values have two."""

KEPT_SHAPES: Final = 4000
"""How many sets of fields are cached for each kind of object, a kilobyte each: optional fields come in many
combinations, 6,000 orders of the simulator in a thousand. A name of more than `MAX_NAME_CHARACTERS` is in
none of them."""

MAX_NAME_CHARACTERS: Final = 64

KEPT_HOURS: Final = 10_000
"""More than a year of them."""

_HOUR_CHARACTERS: Final = len("2025-11-20 10")
_WITHIN_AN_HOUR: Final = frozenset(f":{second // 60:02}:{second % 60:02}" for second in range(3600))

_PLAIN: Final = frozenset({str, bool})
"""Types of values that are written as they came, whatever they are."""


_UNUSUAL: Final = "not of the usual form"

Writer: TypeAlias = Callable[[Any], object]
"""How a field is written; raises ValueError or TypeError where its value is not of the usual form."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is to be done with objects that have the same fields."""

    typed: tuple[tuple[str, Writer], ...]
    """The typed fields in the order in which they are written, and how each is written."""
    beyond: tuple[str, ...]
    """The other fields, sorted."""
    is_odd: bool
    """Whether any of them is asked for by nobody."""
    empty: dict[str, None]
    """The lists that do not come, and that each object has."""


class OddShapes:
    """Objects of any kind that were written so far and have fields that nobody asked for.

    Whoever compares `met` before and after writing an object knows whether the object, or anything in it, has
    some. So nearly all objects are known to have none without being looked at again. With several threads it
    may seem so of an object that has none, never the other way round: `met` has no value twice.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self.met = 0

    def note(self) -> None:
        """An object has such fields."""
        self.met = next(self._numbers)


ODD: Final = OddShapes()


class UsualForm:
    """The usual form of a kind of object."""

    def __init__(
        self,
        fields: Mapping[str, FieldInfo],
        filled: frozenset[str],
        carried: frozenset[str] = frozenset(),
        opaque: Mapping[str, frozenset[str]] = MappingProxyType({}),
    ) -> None:
        """The form of a model with these fields, of which some may not be empty.

        `carried` is what is asked for beyond them, `opaque` what is known of the rows of some of them.

        Raises:
            KeyError: a field is of a type that is not known here.
        """
        typed = {name: field for name, field in fields.items() if name != "platform_fields"}
        self._writers = tuple((name, _writer(field, opaque.get(name))) for name, field in typed.items())
        self._typed = frozenset(typed)
        self._lists = frozenset(name for name, field in typed.items() if field.default_factory is list)
        self._needed = filled.union(name for name, field in typed.items() if field.is_required())
        self._filled = filled
        self._carried = carried
        self._shape = lru_cache(KEPT_SHAPES)(self._shape_of)

    def write(self, raw: Mapping[str, object]) -> dict[str, Any] | None:
        """The object as on the wire, texts that cannot be stored included; None if it is not usual."""
        try:
            return self.part(raw)
        except (ValueError, TypeError):
            return None

    def part(self, raw: Mapping[str, object]) -> dict[str, Any]:
        """The same of an object within another; raises ValueError or TypeError if it is not usual."""
        if type(raw) is not dict:
            raise ValueError(_UNUSUAL)
        shape = self._shape(tuple(raw))
        if shape.is_odd:
            ODD.note()
        beyond = {name: raw[name] for name in shape.beyond}
        if not _are_plain(beyond.values()):
            raise ValueError(_UNUSUAL)
        written: dict[str, Any] = {"platform_fields": beyond}
        if shape.empty:
            raw = raw | shape.empty
        for name, write in shape.typed:
            written[name] = write(raw[name])
        for name in self._filled:
            if not written[name]:
                raise ValueError(_UNUSUAL)
        return written

    def _shape_of(self, names: tuple[str, ...]) -> _Shape:
        there = frozenset(names)
        if (
            not self._needed <= there
            or "platform_fields" in there
            or max(map(len, names)) > MAX_NAME_CHARACTERS
        ):
            raise ValueError(_UNUSUAL)
        return _Shape(
            typed=tuple(writer for writer in self._writers if writer[0] in there | self._lists),
            beyond=tuple(sorted(there - self._typed)),
            is_odd=not there <= self._typed | self._carried,
            empty=dict.fromkeys(self._lists - there),
        )


def _are_plain(values: Collection[object], levels: int = MAX_LEVELS) -> bool:
    """Whether values in the platform's own form are written as they came."""
    others = [value for value in values if type(value) not in _PLAIN]
    return not others or all(_is_plain(value, levels) for value in others)


def _is_plain(value: object, levels: int) -> bool:
    match value:
        case int():
            return -(2**63) <= value < 2**63
        case dict():
            return levels > 0 and _are_plain(value.values(), levels - 1)
        case list():
            return levels > 0 and _are_plain(value, levels - 1)
        case float():
            return isfinite(value)
    return False


def _row(value: object, known: frozenset[str] | None = None) -> dict[str, object]:
    """An object in the platform's own form."""
    if not isinstance(value, dict) or not _are_plain(value.values()):
        raise ValueError(_UNUSUAL)
    if known is not None and not known.issuperset(value):
        ODD.note()
    return value


def _id(value: object) -> str:
    return str(parse_id(value))


@lru_cache(KEPT_AMOUNTS)
def _money(value: object) -> str:
    if type(value) is not str or len(value) > KEPT_AMOUNT_CHARACTERS:
        raise ValueError(_UNUSUAL)
    return write_money(parse_money(value))


def _instant(value: object) -> str:
    # China is whole hours ahead of UTC: minutes and seconds stay as they are.
    if type(value) is not str or value[_HOUR_CHARACTERS:] not in _WITHIN_AN_HOUR:
        raise ValueError(_UNUSUAL)
    return _hour(value[:_HOUR_CHARACTERS]) + value[_HOUR_CHARACTERS:] + "Z"


@lru_cache(KEPT_HOURS)
def _hour(value: str) -> str:
    return write_instant(parse_instant(f"{value}:00:00"))[:_HOUR_CHARACTERS]


def _number(value: object, *, below: int) -> int:
    number = int(value) if type(value) is str and value.isascii() and value.isdigit() else value
    if type(number) is int and -below <= number < below:
        return number
    raise ValueError(_UNUSUAL)


def _flag(value: object) -> bool:
    if value is True or value is False:
        return value
    raise ValueError(_UNUSUAL)


_WRITERS: Final[Mapping[object, Writer]] = {
    str: str.__str__,
    PlatformId: _id,
    Money: _money,
    Instant: _instant,
    Count: partial(_number, below=2**31),
    Milliseconds: partial(_number, below=2**63),
    bool: _flag,
    dict[str, Opaque]: _row,
}
"""How the field types of the contract are written."""


def _writer(field: FieldInfo, known: frozenset[str] | None) -> Writer:
    """How a field is written; `known` is what is known of its rows, if they have the platform's own form.

    Raises:
        KeyError: its type is not known here.
    """
    for list_of in field.metadata:
        if isinstance(list_of, ListOf):
            write = _writer_of(*get_args(field.annotation)) if known is None else partial(_row, known=known)
            return lambda value: [write(row) for row in list_of.flatten(value)]
    (kind,) = {*get_args(field.annotation)} - {NoneType} or {field.annotation}
    return _writer_of(Annotated[kind, *field.metadata] if field.metadata else kind)


def _writer_of(kind: object) -> Writer:
    form = getattr(kind, "usual", None)
    return form.part if isinstance(form, UsualForm) else _WRITERS[kind]
