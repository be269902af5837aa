"""What may change within a version, and what is told about that which may not."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, create_model

from schemas import compatibility, json_schema
from schemas.compatibility import Change
from schemas.json_schema import Json
from schemas.types import Instant, Money, PlatformId

LINE: Any = create_model("Line", oid=(PlatformId, ...), title=(str | None, None))

BASE: dict[str, Any] = {
    "tid": (PlatformId, ...),
    "payment": (Money | None, None),
    "state": (Literal["done", "failed"], ...),
    "lines": (list[LINE], ...),
}


def schema(**fields: Any) -> Json:
    """The base model's schema, with other fields; None takes a field away."""
    wanted = {name: field for name, field in {**BASE, **fields}.items() if field is not None}
    made: type[BaseModel] = create_model("Order", **wanted)
    return json_schema.of(made, "order.v1")


def changes(**fields: Any) -> list[Change]:
    return compatibility.changes(schema(), schema(**fields))


def line(**fields: Any) -> Any:
    made: Any = create_model("Line", **fields)
    return (list[made], ...)


def test_a_schema_is_compatible_with_itself() -> None:
    assert changes() == []


def test_a_field_that_may_be_absent_may_be_added() -> None:
    (found,) = changes(note=(str | None, None))
    assert (found.path, found.what, found.breaks) == ("note", "added", None)


def test_texts_for_people_may_change() -> None:
    described = schema()
    described["description"] = "Something else."
    assert compatibility.changes(schema(), described) == []


@pytest.mark.parametrize(
    ("fields", "path", "told"),
    [
        ({"payment": None}, "payment", "finds nothing"),
        ({"note": (str, ...)}, "note", "lack it"),
        ({"tid": (PlatformId | None, None)}, "tid", "relies on the field"),
        ({"payment": (Money, ...)}, "payment", "may lack it"),
        ({"payment": (Instant | None, None)}, "payment", "does not understand the other"),
        ({"payment": (float | None, None)}, "payment", "does not understand the other"),
        ({"tid": (str, ...)}, "tid", "does not understand the other"),
        ({"state": (Literal["done", "failed", "late"], ...)}, "state", "do not expect it"),
        ({"state": (Literal["done"], ...)}, "state", "in the topic already"),
        ({"state": (str, ...)}, "state", "unknown"),
        ({"lines": line(oid=(PlatformId, ...))}, "lines[].title", "finds nothing"),
        ({"lines": line(oid=(PlatformId | None, None), title=(str | None, None))}, "lines[].oid", "relies"),
        ({"lines": line(oid=(PlatformId, ...), title=(int | None, None))}, "lines[].title", "understand"),
        ({"lines": (str, ...)}, "lines", "does not understand the other"),
    ],
)
def test_what_takes_something_from_a_reader_is_named_with_whom_it_breaks(
    fields: dict[str, Any], path: str, told: str
) -> None:
    found = [change for change in changes(**fields) if change.breaks]
    assert path in {change.path for change in found}
    assert any(told in (change.breaks or "") for change in found)
    assert all(str(change).startswith(f"{change.path}: ") for change in found)


def test_a_value_that_goes_is_named_and_one_that_comes_is_named() -> None:
    three = schema(state=(Literal["done", "failed", "late"], ...))
    two = schema(state=(Literal["done", "lost"], ...))
    told = " ".join(map(str, compatibility.changes(three, two)))
    for value in ("failed", "late", "lost"):
        assert f"`{value}`" in told
    assert "`done`" not in told
