"""Progress of work that has a step after the other: bars on a terminal, a line per step elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars:
    """One bar per seller; where the output is no terminal, one line per seller and step.

    `steps` says how each step is shown, in the order in which they come.
    """

    def __init__(self, output: TextIO, steps: Mapping[str, str]) -> None:
        self._steps = steps
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

    def say(self, text: str) -> None:
        """Show a sentence above the bars."""
        self._console.print(text, markup=False, soft_wrap=True)

    def reporter(self, seller: str) -> Callable[[str, int, int | None], None]:
        """What one seller's work reports its steps to."""
        first = next(iter(self._steps.values()))
        task: TaskID = self._progress.add_task(first, total=None, seller=seller)
        told: set[str] = set()

        def report(step: str, done: int, total: int | None) -> None:
            self._progress.update(task, description=self._steps[step], completed=done, total=total)
            finished = total is not None and done >= total
            if not self._console.is_terminal and finished and step not in told:
                told.add(step)
                self._console.print(f"{seller}: {self._steps[step]}: {done} of {total}", markup=False)

        return report
