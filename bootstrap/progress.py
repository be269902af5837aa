"""Progress of bulk starts: bars on a terminal, a line per step elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

STEPS = {
    "subscribe": "subscribing",
    "export": "waiting for the export",
    "load": "loading the export",
    "store": "storing orders",
    "today": "today's changes",
    "live": "live",
}


class Bars:
    """One bar per seller; where the output is no terminal, one line per seller and step."""

    def __init__(self, output: TextIO) -> None:
        self._console = Console(file=output, highlight=False)
        self._progress = Progress(
            TextColumn("{task.fields[seller]:<16}", markup=False),
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def reporter(self, seller: str) -> Callable[[str, int, int | None], None]:
        """What one seller's job reports its steps to."""
        task: TaskID = self._progress.add_task(STEPS["subscribe"], total=None, seller=seller)
        told: set[str] = set()

        def report(step: str, done: int, total: int | None) -> None:
            self._progress.update(task, description=STEPS[step], completed=done, total=total)
            finished = total is not None and done >= total
            if not self._console.is_terminal and finished and step not in told:
                told.add(step)
                self._console.print(f"{seller}: {STEPS[step]}: {done} of {total}", markup=False)

        return report
