"""The results of a benchmark: a table for people, in the terminal and in docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from rich.console import Console
from rich.table import Table

FIGURES: Final[Mapping[str, str]] = {"what": "left", "measured": "right", "target": "right", "met": "left"}
"""The columns of most reports, and where their texts stand."""

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A figure.

    Attributes:
        at_least, at_most: the target, if the figure has one; the row then says whether it is met.
        digits: after the decimal point.
    """

    what: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    digits: int = 0

    @property
    def cells(self) -> tuple[str, ...]:
        """As in the table."""
        return (self.what, self.figure, self.target, self.met)

    @property
    def figure(self) -> str:
        return f"{self.value:,.{self.digits}f} {self.unit}".rstrip()

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:,.{self.digits}f}"
        return "" if self.at_most is None else f"≤ {self.at_most:,.{self.digits}f}"

    @property
    def met(self) -> str:
        if self.at_least is None and self.at_most is None:
            return ""
        enough = self.at_least is None or self.value >= self.at_least
        return "yes" if enough and (self.at_most is None or self.value <= self.at_most) else "**no**"


class Line(Protocol):
    """A row of a report's table."""

    @property
    def cells(self) -> tuple[str, ...]:
        """Its texts, one for each column of the report."""


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a benchmark.

    Attributes:
        name: how the benchmark is called.
        setup: what was run against what.
        page: where `--write` puts it.
        options: what else the command line had.
        columns: of its table, and where their texts stand.
    """

    name: str
    setup: str
    rows: Sequence[Line]
    page: Path = PAGE
    options: str = ""
    columns: Mapping[str, str] = field(default_factory=lambda: FIGURES)

    @property
    def command(self) -> str:
        """The command that runs it."""
        return (
            f'make bench ARGS="{self.name} {self.options}"'
            if self.options
            else f"make bench ARGS={self.name}"
        )


def orders_option(orders: Sequence[int]) -> str:
    """The option for these sizes."""
    return f"--orders {' '.join(map(str, orders))}"


def show(report: Report) -> None:
    """Print a report as a table."""
    table = Table(title=report.name, caption=report.setup, caption_justify="left", title_justify="left")
    for column, side in report.columns.items():
        table.add_column(column, justify="right" if side == "right" else "left")
    for row in report.rows:
        table.add_row(*(cell.replace("*", "") for cell in row.cells))
    Console(width=110).print(table)


def write(report: Report) -> None:
    """Put a report into its place on its page, between the comments with its name.

    Raises:
        ValueError: the page has no such place.
    """
    begin, end = f"<!-- {report.name}: begin -->", f"<!-- {report.name}: end -->"
    rows = [f"| {' | '.join(row.cells)} |" for row in report.rows]
    rules = ["---:" if side == "right" else "---" for side in report.columns.values()]
    body = "\n".join(
        (
            begin,
            f"`{report.command}`, {datetime.now(UTC):%Y-%m-%d}, {machine()}.",
            report.setup,
            "",
            f"| {' | '.join(report.columns)} |",
            f"| {' | '.join(rules)} |",
            *rows,
            end,
        )
    )
    text, found = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: body, report.page.read_text(), flags=re.DOTALL
    )
    if not found:
        raise ValueError(f"{report.page.name} has no place for {report.name}: add {begin} and {end}")
    report.page.write_text(text)


def machine() -> str:
    """This machine in a few words: processor, usable cores, memory, Python, and its present speed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"Python {platform.python_version()}, a million objects in {_objects_seconds():.2f} s"
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB, {python}"


def _objects_seconds() -> float:
    """A measure of the present speed: a shared machine has faster and slower hours, mostly for memory."""
    begun = time.perf_counter()
    kept: dict[int, tuple[int, str]] = {}
    for number in range(1_000_000):
        kept[number % 10_000] = (number, str(number))
    return time.perf_counter() - begun


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.machine()
