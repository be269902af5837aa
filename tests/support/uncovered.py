"""What the suite does not run: writes docs/reference/coverage.md from what coverage.py measured.

`python -m tests.support.uncovered`, the last step of `make coverage`, reads `.local/coverage/report.json`. It
fails where a function that never ran has no reason in `tests/uncovered.toml`, and where a reason stands for
functions that ran.

A *place* is a function, `consumer/push/service.py::PushService.run`, or a file with all its functions.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from benchmarks import report as benchmark
from tests.support.places import DOCS, ROOT

REPORT: Final = ROOT / ".local" / "coverage" / "report.json"
REASONS: Final = ROOT / "tests" / "uncovered.toml"
PAGE: Final = DOCS / "reference" / "coverage.md"

NAMES: Final = "::"
"""Stands between a file and the name of a function in it."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the product, and how much of it the suite ran.

    Attributes:
        name: with its class; empty for what a file does as it is imported.
    """

    file: str
    name: str
    lines: int
    lines_run: int
    branches: int
    branches_run: int

    @property
    def place(self) -> str:
        return f"{self.file}{NAMES}{self.name}"

    @property
    def never_ran(self) -> bool:
        return self.lines > 0 and self.lines_run == 0

    @property
    def ran_in_part(self) -> bool:
        return self.lines_run > 0 and (self.lines_run < self.lines or self.branches_run < self.branches)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the suite does not run some places."""

    title: str
    why: str
    places: tuple[str, ...]


def functions(report: Mapping[str, Any]) -> list[Function]:
    """The contents of `coverage json`, by file."""
    return [
        Function(
            file,
            name,
            lines=found["summary"]["num_statements"],
            lines_run=found["summary"]["covered_lines"],
            branches=found["summary"]["num_branches"],
            branches_run=found["summary"]["covered_branches"],
        )
        for file, measured in sorted(report["files"].items())
        for name, found in measured["functions"].items()
    ]


def reasons(text: Mapping[str, Any]) -> list[Reason]:
    """The contents of tests/uncovered.toml."""
    return [Reason(each["title"], each["why"], tuple(each["places"])) for each in text["reason"]]


def problems(measured: Iterable[Function], known: Sequence[Reason]) -> list[str]:
    """What is wrong with the reasons: a line for each that is missing or stands for nothing."""
    never = [function for function in measured if function.never_ran]
    places = [place for reason in known for place in reason.places]
    return [
        *(
            f"{function.place} never ran and has no reason: write a test, remove it, or say why not"
            for function in never
            if not any(_is_for(reason, function) for reason in known)
        ),
        *(
            f"{place} has a reason, but it ran: remove the place"
            for place in places
            if not any(place in (function.place, function.file) for function in never)
        ),
    ]


def page(measured: Sequence[Function], known: Sequence[Reason], *, machine: str) -> str:
    """The page: figures by package, what never ran with its reasons, and what ran in part.

    Args:
        known: without `problems`.
        machine: where the suite ran.
    """
    parts = [HEAD.format(machine=machine), *_figures(measured), "", "## Functions that never ran", ""]
    for reason in known:
        parts += [f"### {reason.title}", "", reason.why, "", *_listed(reason.places), ""]
    parts += [IN_PART, *_listed(each.place for each in measured if each.ran_in_part)]
    return "\n".join([*parts, ""])


HEAD: Final = """\
# What the suite does not run

Written by `make coverage`. It runs the suite with coverage.py, branches included, also in the services and
commands that the tests start. A killed process writes no data: what only such a process ran counts as not
run. `fail_under` in `pyproject.toml` is the least share of lines and branches together.
`tests/uncovered.toml` has a reason for each function that never ran.

The last run was on {machine}.

| package | lines | run | branches | run | functions | never ran | ran in part |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""

IN_PART: Final = """\
## Functions that ran in part

Most of the rest are errors and moments that a run does not always meet: an outage, an end, another process
between two steps of a service. So some of these functions change from run to run. `make coverage` prints
the lines.
"""


def _figures(measured: Sequence[Function]) -> Iterator[str]:
    for package, inside in groupby(measured, key=lambda each: _package_of(each.file)):
        yield _row(f"`{package}`", list(inside))
    yield _row("all", measured)


def _row(title: str, inside: Sequence[Function]) -> str:
    lines, branches = sum(each.lines for each in inside), sum(each.branches for each in inside)
    cells = (
        title,
        f"{lines:,}",
        _share(sum(each.lines_run for each in inside), lines),
        f"{branches:,}",
        _share(sum(each.branches_run for each in inside), branches),
        f"{sum(bool(each.name) for each in inside):,}",
        sum(each.never_ran for each in inside),
        sum(each.ran_in_part for each in inside),
    )
    return f"| {' | '.join(map(str, cells))} |"


def _share(part: int, whole: int) -> str:
    """In percent, rounded down, so that 100 means all."""
    return f"{1000 * part // whole / 10} %" if whole else ""


def _package_of(file: str) -> str:
    room, *inside = Path(file).parts[:-1]
    return "/".join([room, *inside[:1]]) if room == "topsync" else room


def _listed(places: Iterable[str]) -> Iterator[str]:
    for file, inside in groupby(places, key=lambda place: place.partition(NAMES)[0]):
        names = [f"`{name}`" for place in inside if (name := place.partition(NAMES)[2])]
        yield f"- `{file}`{': ' if names else ''}{', '.join(names)}"


def _is_for(reason: Reason, function: Function) -> bool:
    return function.place in reason.places or function.file in reason.places


def main() -> int:
    """Check the reasons, and write the page if they are complete; returns the exit status."""
    measured = functions(json.loads(REPORT.read_text("utf-8")))
    known = reasons(tomllib.loads(REASONS.read_text("utf-8")))
    if found := problems(measured, known):
        print(*found, f"Reasons are in {REASONS.relative_to(ROOT)}.", sep="\n")
        return 1
    PAGE.write_text(page(measured, known, machine=benchmark.machine()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
