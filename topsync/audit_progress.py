"""How far an audit has come, for whoever waits: a status on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from topsync import terminal
from topsync.audit import Compared, Stage

LINE_EVERY_SECONDS = 5.0


def describe(stage: Stage) -> str:
    """A stage in words."""
    if isinstance(stage, Compared):
        return f"compared {stage.sellers} of {stage.of} sellers"
    holes = f", and {stage.holes} spans that nothing vouches for" if stage.holes else ""
    return (
        f"{stage.differing} orders and refunds still on the move{holes}: "
        f"looking again for up to {stage.seconds_left:.0f} s"
    )


@contextmanager
def shown() -> Iterator[Callable[[Stage], None]]:
    """Show each stage on standard error; what the audit prints is not mixed with it."""
    console = terminal.console(sys.stderr)
    if not console.is_terminal:
        yield _lines()
        return
    with console.status("reading the topics") as status:
        yield lambda stage: status.update(describe(stage))


def _lines() -> Callable[[Stage], None]:
    due = time.monotonic() + LINE_EVERY_SECONDS

    def show(stage: Stage) -> None:
        nonlocal due
        if time.monotonic() >= due:
            terminal.complain(describe(stage))
            due = time.monotonic() + LINE_EVERY_SECONDS

    return show
