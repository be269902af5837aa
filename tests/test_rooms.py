"""The picture of the packages in docs/architecture.md is the import graph that import-linter enforces."""

from __future__ import annotations

from tests.support import rooms


def test_every_module_has_a_floor() -> None:
    assert rooms.homeless() == ["topsync.__main__"], "add its room to the floors in pyproject.toml"


def test_the_picture_shows_the_imports_as_they_are() -> None:
    page = rooms.PAGE.read_text("utf-8")
    assert rooms.with_picture(page) == page, "run: python -m tests.support.rooms --write"
