"""Shows the progress of work that has several steps: bars on a terminal, a line per step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from topsync.base import terminal
from topsync.base.shown import shown


class Bars:
    """A bar per seller. Where the output is no terminal, a line per seller and step.

    `steps` gives each step its text, in the order in which the steps come.
    """

    def __init__(self, output: TextIO, steps: Mapping[str, str]) -> None:
        self._steps = steps
        self._console = terminal.console(output)
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
        self._console.print(shown(text), soft_wrap=True)

    def reporter(self, seller: str) -> Callable[[str, int, int | None], None]:
        """A function to which a seller's work reports its steps."""
        seller = shown(seller)
        first = next(iter(self._steps.values()))
        task: TaskID = self._progress.add_task(first, total=None, seller=seller)
        reported: set[str] = set()

        def report(step: str, done: int, total: int | None) -> None:
            self._progress.update(task, description=self._steps[step], completed=done, total=total)
            finished = total is not None and done >= total
            if not self._console.is_terminal and finished and step not in reported:
                reported.add(step)
                self._console.print(f"{seller}: {self._steps[step]}: {done} of {total}", soft_wrap=True)

        return report


@contextmanager
def looking(what: str) -> Iterator[Callable[[int, int], None]]:
    """On a terminal, a bar for a search that takes long, gone at the end. Report (done, total) to it."""
    console = terminal.console(sys.stderr)
    bar = Progress(
        TextColumn(what, markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def moving(*, every_seconds: float = 0.0) -> Iterator[Callable[[str, str], None]]:
    """Show on standard error what a wait waits for, and a detail that changes all the time.

    A terminal shows both in place. Elsewhere a line is written when the text has changed, without the detail
    and at most once in `every_seconds`.
    """
    console = terminal.console(sys.stderr)
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text, detail: status.update(shown(f"{text} {detail}".rstrip()))
        return
    last, due_at = "", time.monotonic() + every_seconds

    def show_change(text: str, _: str) -> None:
        nonlocal last, due_at
        if text != last and time.monotonic() >= due_at:
            terminal.complain(text)
            last, due_at = text, time.monotonic() + every_seconds

    yield show_change


@contextmanager
def advancing(*, every_seconds: float = 0.0) -> Iterator[Callable[[str, str, float | None], None]]:
    """Like `moving`, for work of which it is known how much of it is done: a share from 0 to 1, or None.

    On a terminal, a bar beside the text.
    """
    console = terminal.console(sys.stderr)
    if not console.is_terminal:
        with moving(every_seconds=every_seconds) as show_it:
            yield lambda text, detail, _: show_it(text, detail)
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[detail]}", markup=False),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None, detail="")

        def show_share(text: str, detail: str, share: float | None) -> None:
            total = None if share is None else 1.0
            bar.update(task, description=shown(text), detail=detail, completed=share or 0.0, total=total)

        yield show_share
