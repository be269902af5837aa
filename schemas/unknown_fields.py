"""Fields that nobody knows, of objects as on the wire: neither in the contract nor asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from schemas.platform_object import PlatformObject

OF_AN_UNKNOWN_SHAPE: Final = " (of an unknown shape)"
"""Follows the name of a field that is known, and whose value could not be read as what it should be."""


def unknown_fields(model: type[PlatformObject], written: Mapping[str, Any]) -> list[str]:
    """The names of the fields that nobody knows, those of lines and other parts as `orders.some_name`.

    Nearly always there are none, and this is asked of each order that is stored: so it is quick to say so.
    """
    found: list[str] = []
    _add(model, written, "", found)
    return found


def _add(model: type[PlatformObject], written: Mapping[str, Any], within: str, found: list[str]) -> None:
    beyond = written["platform_fields"]
    if not model.carried.issuperset(beyond):
        found += (
            f"{within}{name}{OF_AN_UNKNOWN_SHAPE if name in model.typed else ''}"
            for name in sorted(beyond.keys() - model.carried)
        )
    for part, inner in model.parts.items():
        for row in _rows(written.get(part)):
            _add(inner, row, f"{part}.", found)
    for name, known in model.opaque.items():
        for row in written.get(name, ()):
            if not known.issuperset(row):
                found += (f"{name}.{each}" for each in sorted(row.keys() - known))


def _rows(part: object) -> Iterable[Mapping[str, Any]]:
    """The objects of a part, which may be a list, a single object, or absent."""
    return part if isinstance(part, list) else () if part is None else (part,)  # type: ignore[return-value]
