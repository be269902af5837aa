"""What a run of the suite did not cover, function by function, compared with the written reasons.

A *place* is a function, `consumer/push.py::PushService.run`, or a whole file, `topsync/local/guardian.py`.
The code of a module or a class outside of every function is `topsync/cli.py::`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

EXIT: Final = "the end"
"""Where a branch leads that leaves the function."""


@dataclass(frozen=True, slots=True)
class Uncovered:
    """The part of a function that never ran."""

    file: str
    function: str
    lines: tuple[int, ...]
    branches: tuple[tuple[int, int], ...]
    """Line of the condition, and line to which it never led; below 0: out of the function."""

    @property
    def place(self) -> str:
        """The function's name among the reasons."""
        return f"{self.file}::{self.function}"

    @property
    def named(self) -> str:
        """The function's name on the page."""
        return f"`{self.function}`" if self.function else "outside of functions"

    @property
    def shown(self) -> str:
        """Lines and branches, for a reader who has the file before them."""
        # If a line never ran, its branch adds nothing.
        arcs = [(start, end) for start, end in self.branches if end not in self.lines]
        branches = [f"{start} to {EXIT if end < 0 else end}" for start, end in arcs]
        return ", ".join([*_ranges(self.lines), *branches])


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the suite."""

    lines_percent: float
    branches_percent: float
    uncovered: tuple[Uncovered, ...]

    @property
    def summary(self) -> str:
        """Both shares, rounded down, so that 100 means all."""
        lines, branches = int(self.lines_percent * 10) / 10, int(self.branches_percent * 10) / 10
        return f"{lines} % of the lines and {branches} % of the branches are covered"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some places are not covered."""

    title: str
    why: str
    places: tuple[str, ...]
    only_sometimes: bool
    """Whether it is chance, in each run, if these places are covered."""


def read_report(report: Mapping[str, Any]) -> Report:
    """What `coverage json` wrote.

    Raises:
        KeyError: it comes from a version of coverage.py that writes something else.
    """
    totals = report["totals"]
    return Report(
        lines_percent=100 * totals["covered_lines"] / totals["num_statements"],
        branches_percent=100 * totals["covered_branches"] / totals["num_branches"],
        uncovered=tuple(
            Uncovered(
                file,
                function,
                tuple(found["missing_lines"]),
                tuple((start, end) for start, end in found["missing_branches"]),
            )
            for file, measured in sorted(report["files"].items())
            for function, found in measured["functions"].items()
            if found["missing_lines"] or found["missing_branches"]
        ),
    )


def read_reasons(text: Mapping[str, Any]) -> list[Reason]:
    """The contents of tests/uncovered.toml.

    Raises:
        KeyError: a reason without `title`, `why` or `places`.
    """
    return [
        Reason(entry["title"], entry["why"], tuple(entry["places"]), bool(entry.get("only_sometimes")))
        for entry in text["reason"]
    ]


def problems(report: Report, reasons: Sequence[Reason]) -> list[str]:
    """The problems of the reasons, a line each: missing, not needed, or double."""
    found, known = [part.place for part in report.uncovered], _by_place(reasons)
    return [
        *(
            f"{part.place} is not covered ({part.shown}) and has no reason: write a test, or say why not"
            for part in report.uncovered
            if _reason_of(part, known) is None
        ),
        *(
            f"{place} has a reason and is covered: remove the place"
            for place, reason in known.items()
            if not reason.only_sometimes and not any(_stands_for(place, place_) for place_ in found)
        ),
        *(f"{place} has two reasons: remove one of them" for place in dict.fromkeys(_twice(reasons))),
    ]


def table(report: Report, reasons: Sequence[Reason]) -> str:
    """The uncovered places by file, each with its lines; places without a reason are marked."""
    known = _by_place(reasons)
    lines: list[str] = []
    for file, places in groupby(report.uncovered, key=lambda part: part.file):
        lines.append(file)
        for part in places:
            mark = " " if _reason_of(part, known) else "?"
            lines.append(f"  {mark} {part.named.strip('`')}: {part.shown}")
    return "\n".join([*lines, ""])


def page(report: Report, reasons: Sequence[Reason]) -> str:
    """The page for readers: each reason with its places. Without numbers of lines, which move."""
    known = _by_place(reasons)
    parts = [HEAD.format(summary=report.summary)]
    for reason in dict.fromkeys(known.values()):
        places = [part for part in report.uncovered if _reason_of(part, known) is reason]
        listed = [
            f"- `{file}`: {', '.join(part.named for part in inside)}"
            for file, inside in groupby(places, key=lambda part: part.file)
        ]
        sometimes = [SOMETIMES] if reason.only_sometimes else []
        lines = [f"## {reason.title}", "", reason.why, *sometimes, "", *(listed or [NOTHING]), ""]
        parts.append("\n".join(lines))
    return "\n".join(parts)


SOMETIMES: Final = "Chance decides in each run which of them are covered."
NOTHING: Final = "- nothing in the last run"

HEAD: Final = """\
# What the suite does not cover

Written by `make coverage`, which runs the suite with coverage.py, branches included, also in the services and
commands that the tests start. It fails where something is not covered and has no reason in
`tests/uncovered.toml`, and where something has a reason and is covered. It prints the lines as well.

In the last run, {summary}.

A process that is killed writes no data. The suite kills services at many places on purpose, so some code that
it runs is listed here.
"""


def _by_place(reasons: Sequence[Reason]) -> dict[str, Reason]:
    return {place: reason for reason in reasons for place in reason.places}


def _reason_of(part: Uncovered, known: Mapping[str, Reason]) -> Reason | None:
    return known.get(part.place) or known.get(part.file)


def _stands_for(place: str, uncovered: str) -> bool:
    return uncovered == place or ("::" not in place and uncovered.startswith(f"{place}::"))


def _twice(reasons: Sequence[Reason]) -> Iterator[str]:
    seen: set[str] = set()
    for reason in reasons:
        for place in reason.places:
            if place in seen:
                yield place
            seen.add(place)


def _ranges(lines: Iterable[int]) -> list[str]:
    """Numbers of lines; a dash joins lines that follow each other."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    return [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
