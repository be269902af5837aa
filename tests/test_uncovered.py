"""Each uncovered place has a reason, and each reason is needed: `make coverage`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.measured import uncovered
from tests.measured.uncovered import Reason

TITLE, WHY = "Without power", "Only a power cut would show it."


def function(*lines: int, branches: tuple[tuple[int, int], ...] = ()) -> dict[str, Any]:
    return {"missing_lines": list(lines), "missing_branches": [list(branch) for branch in branches]}


MEASURED = uncovered.read_report(
    {
        "totals": {"covered_lines": 97, "num_statements": 100, "covered_branches": 19, "num_branches": 20},
        "files": {
            "a.py": {
                "functions": {"Door.open": function(3, 4, 5, 9), "Door.close": function(), "": function()}
            },
            "b.py": {"functions": {"f": function(branches=((7, 9), (8, -6))), "g": function(12)}},
        },
    }
)
ALL = [Reason(TITLE, WHY, ("a.py::Door.open", "b.py"), only_sometimes=False)]


def test_a_reason_may_be_for_a_function_or_for_a_whole_file() -> None:
    assert uncovered.problems(MEASURED, ALL) == []


def test_an_uncovered_place_without_a_reason_is_a_problem_that_names_the_lines() -> None:
    (problem,) = uncovered.problems(MEASURED, [Reason(TITLE, WHY, ("b.py",), only_sometimes=False)])
    assert problem.startswith("a.py::Door.open is not covered (3-5, 9) and has no reason")


@pytest.mark.parametrize("place", ["a.py::Door.close", "c.py"])
def test_a_reason_for_a_covered_place_is_a_problem(place: str) -> None:
    reasons = [*ALL, Reason(TITLE, WHY, (place,), only_sometimes=False)]
    assert uncovered.problems(MEASURED, reasons) == [f"{place} has a reason and is covered: remove the place"]


def test_a_place_that_is_covered_by_chance_may_be_covered() -> None:
    reasons = [*ALL, Reason(TITLE, WHY, ("a.py::Door.close",), only_sometimes=True)]
    assert uncovered.problems(MEASURED, reasons) == []


def test_two_reasons_for_a_place_are_a_problem() -> None:
    assert uncovered.problems(MEASURED, [*ALL, *ALL]) == [
        "a.py::Door.open has two reasons: remove one of them",
        "b.py has two reasons: remove one of them",
    ]


def test_a_branch_that_was_never_taken_is_named_by_both_its_ends() -> None:
    branches = next(part for part in MEASURED.uncovered if part.function == "f")
    assert branches.shown == "7 to 9, 8 to the end"


def test_the_table_marks_a_place_without_a_reason() -> None:
    text = uncovered.table(MEASURED, [Reason(TITLE, WHY, ("b.py",), only_sometimes=False)])
    assert text.splitlines() == [
        "a.py",
        "  ? Door.open: 3-5, 9",
        "b.py",
        "    f: 7 to 9, 8 to the end",
        "    g: 12",
    ]


def test_the_page_has_every_place_below_its_reason() -> None:
    text = uncovered.page(MEASURED, ALL)
    assert "97.0 % of the lines and 95.0 % of the branches" in text
    assert text.endswith(f"## {TITLE}\n\n{WHY}\n\n- `a.py`: `Door.open`\n- `b.py`: `f`, `g`\n")
