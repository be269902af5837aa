"""One name for one type: no class of the product has the name of another."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.support.places import ROOT

PACKAGES = ("topsync", "consumer", "bootstrap", "reconciler", "schemas")


def test_no_two_classes_of_the_product_have_the_same_name() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ast.parse(path.read_text("utf-8"))
            for statement in module.body:
                if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
                    places[statement.name].append(str(path.relative_to(ROOT)))
    assert len(places) > 300, "the packages were found"
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
