"""Which changes are allowed within a version, and how the other changes are reported."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from schemas import compatibility, json_schema
from schemas.compatibility import ContractChange
from schemas.json_schema import Json
from schemas.types import Instant, Money, PlatformId

LINE: Any = create_model("Line", oid=(PlatformId, ...), title=(str | None, None))

OPEN: Any = create_model("Note", text=(str, ...))
SHUT: Any = create_model("Note", __config__=ConfigDict(extra="forbid"), text=(str, ...))
TEXT = WithJsonSchema({"type": "string"}, mode="serialization")

BASE: dict[str, Any] = {
    "tid": (PlatformId, ...),
    "payment": (Money | None, None),
    "state": (Literal["done", "failed"], ...),
    "lines": (list[LINE], ...),
    "code": (Annotated[str, Field(max_length=10)], ...),
    "share": (float, ...),
    "closed": (OPEN, ...),
}


def schema(**fields: Any) -> Json:
    """The base model's schema, with other fields; None takes a field away."""
    wanted = {name: field for name, field in {**BASE, **fields}.items() if field is not None}
    made: type[BaseModel] = create_model("Order", **wanted)
    return json_schema.of(made, "order.v1")


def changes(**fields: Any) -> list[ContractChange]:
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
    ("fields", "path", "expected"),
    [
        ({"payment": None}, "payment", "no longer find it"),
        ({"note": (str, ...)}, "note", "lack it"),
        ({"tid": (PlatformId | None, None)}, "tid", "rely on the field"),
        ({"payment": (Money, ...)}, "payment", "may lack it"),
        ({"payment": (Instant | None, None)}, "payment", "do not understand the new form"),
        ({"payment": (float | None, None)}, "payment", "do not understand the new form"),
        ({"tid": (str, ...)}, "tid", "do not understand the new form"),
        ({"state": (Literal["done", "failed", "late"], ...)}, "state", "do not expect it"),
        ({"state": (Literal["done"], ...)}, "state", "in the topic already"),
        ({"state": (str, ...)}, "state", "do not know the new values"),
        ({"lines": line(oid=(PlatformId, ...))}, "lines[].title", "no longer find it"),
        ({"lines": line(oid=(PlatformId | None, None), title=(str | None, None))}, "lines[].oid", "rely on"),
        ({"lines": line(oid=(PlatformId, ...), title=(int | None, None))}, "lines[].title", "understand"),
        ({"lines": (str, ...)}, "lines", "do not understand the new form"),
        ({"lines": (list[Any], ...)}, "lines[].oid", "no longer find it"),
        ({"payment": (Annotated[Money, TEXT] | None, None)}, "payment", "do not understand the new form"),
        ({"code": (Annotated[str, Field(max_length=9)], ...)}, "code", "do not understand the new form"),
        ({"code": (Annotated[str, Field(pattern="^[a-z]+$")], ...)}, "code", "understand"),
        ({"code": (Annotated[str, Field(min_length=1, max_length=10)], ...)}, "code", "understand"),
        ({"share": (Annotated[float, Field(le=1)], ...)}, "share", "do not understand the new form"),
        ({"share": (int, ...)}, "share", "do not understand the new form"),
        ({"closed": (SHUT, ...)}, "closed", "do not understand the new form"),
    ],
)
def test_a_change_that_breaks_a_reader_is_named_with_that_reader(
    fields: dict[str, Any], path: str, expected: str
) -> None:
    found = [change for change in changes(**fields) if change.breaks]
    assert path in {change.path for change in found}
    assert any(expected in (change.breaks or "") for change in found)
    assert all(str(change).startswith(f"{change.path}: ") for change in found)


@pytest.mark.parametrize("kind", [dict[str, LINE], LINE | int], ids=["by name", "an alternative"])
def test_an_object_is_compared_wherever_it_is_used(kind: Any) -> None:
    """What refers to it says the same before and after: only the object's own schema differs."""
    old, new = (json_schema.of(create_model("Order", held=(kind, ...)), "order.v1") for _ in range(2))
    assert compatibility.changes(old, new) == []
    del new["definitions"]["Line"]["properties"]["title"]  # type: ignore[index]
    (found,) = compatibility.changes(old, new)
    assert (found.path, bool(found.breaks)) == ("held", True)


def test_items_that_get_a_form_or_lose_it_are_named() -> None:
    free, bound = {"type": "array"}, {"type": "array", "items": {"type": "string"}}
    for old, new in ((free, bound), (bound, free)):
        (found,) = compatibility.changes(old, new)
        assert (found.path, bool(found.breaks)) == ("[]", True)


def test_a_field_named_like_an_annotation_is_a_field() -> None:
    """Wherever it is: within an alternative, too."""
    long, short = (
        {"anyOf": [{"properties": {"title": {"type": kind}}}, {"type": "null"}]}
        for kind in ("string", "null")
    )
    (found,) = compatibility.changes(long, short)
    assert found.breaks


def test_a_value_that_goes_is_named_and_so_is_a_value_that_comes() -> None:
    three = schema(state=(Literal["done", "failed", "late"], ...))
    two = schema(state=(Literal["done", "lost"], ...))
    expected = " ".join(map(str, compatibility.changes(three, two)))
    for value in ("failed", "late", "lost"):
        assert f"`{value}`" in expected
    assert "`done`" not in expected
