"""Fields that nobody knows, of objects as on the wire: neither in the contract nor asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from schemas.platform_object import PlatformObject

OF_AN_UNKNOWN_SHAPE: Final = " (of an unknown shape)"
"""Follows the name of a field that is known, and whose value could not be read as what it should be."""

KEPT_SHAPES: Final = 4000
"""How many sets of names are cached, of all kinds together: most objects come with the same few."""


def unknown_fields(model: type[PlatformObject], written: Mapping[str, Any]) -> list[str]:
    """The names of the fields that nobody knows, those of lines and other parts as `orders.some_name`.

    What may not be odd (`WireForm.may_be_odd`) has none.
    """
    found = list(_beyond(model, tuple(written["platform_fields"])))
    for part, inner in model.parts.items():
        for row in _rows(written.get(part)):
            found += (f"{part}.{name}" for name in unknown_fields(inner, row))
    for name, known in model.opaque.items():
        for row in written.get(name, ()):
            found += (f"{name}.{each}" for each in _others(known, tuple(row)))
    return found


@lru_cache(KEPT_SHAPES)
def _beyond(model: type[PlatformObject], names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names in `platform_fields` that nobody asked for."""
    return tuple(
        name + OF_AN_UNKNOWN_SHAPE if name in model.typed else name for name in _others(model.carried, names)
    )


@lru_cache(KEPT_SHAPES)
def _others(known: frozenset[str], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(names) - known))


def _rows(part: object) -> Collection[Mapping[str, Any]]:
    """The objects of a part, which may be a list, a single object, or absent."""
    if isinstance(part, list):
        return part
    return (part,) if isinstance(part, Mapping) else ()
