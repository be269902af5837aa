"""A function that the suite never runs has a reason, and no reason is left over: `make coverage`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import uncovered
from tests.support.uncovered import Reason


def summary(lines: tuple[int, int], branches: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """How many there are, and how many of them ran."""
    (num_statements, covered_lines), (num_branches, covered_branches) = lines, branches
    return {
        "summary": {
            "num_statements": num_statements,
            "covered_lines": covered_lines,
            "num_branches": num_branches,
            "covered_branches": covered_branches,
        }
    }


MEASURED = uncovered.functions(
    {
        "files": {
            "topsync/doors/door.py": {
                "functions": {
                    "Door.open": summary((4, 0)),
                    "Door.close": summary((4, 4), (2, 2)),
                    "Door.knock": summary((9, 9), (4, 3)),
                    "": summary((3, 3)),
                }
            },
            "keys/key.py": {"functions": {"turn": summary((2, 0), (2, 0)), "": summary((1, 0))}},
        }
    }
)
REASONS = [Reason("A title", "It would break.", ("topsync/doors/door.py::Door.open", "keys/key.py"))]


def test_a_reason_for_a_function_and_another_for_a_whole_file_are_enough() -> None:
    assert uncovered.problems(MEASURED, REASONS) == []


def test_a_function_that_never_ran_and_has_no_reason_is_a_problem() -> None:
    (problem,) = uncovered.problems(MEASURED, [Reason("A title", "Why.", ("keys/key.py",))])
    assert problem.startswith("topsync/doors/door.py::Door.open never ran and has no reason")


@pytest.mark.parametrize("place", ["topsync/doors/door.py::Door.knock", "gone.py"])
def test_a_reason_for_what_ran_or_is_gone_is_a_problem(place: str) -> None:
    reasons = [*REASONS, Reason("Another", "Why.", (place,))]
    assert uncovered.problems(MEASURED, reasons) == [f"{place} has a reason, but it ran: remove the place"]


def test_the_page_has_figures_by_package_and_each_function_once() -> None:
    text = uncovered.page(MEASURED, REASONS, machine="a small machine")
    assert "The last run was on a small machine." in text
    assert "| `topsync/doors` | 20 | 80.0 % | 6 | 83.3 % | 3 | 1 | 1 |\n" in text
    assert "| all | 23 | 69.5 % | 8 | 62.5 % | 4 | 3 | 1 |\n" in text
    never, in_part = text.split("## Functions that ran in part")
    assert (
        "### A title\n\nIt would break.\n\n- `topsync/doors/door.py`: `Door.open`\n- `keys/key.py`\n" in never
    )
    assert in_part.endswith("\n- `topsync/doors/door.py`: `Door.knock`\n")
