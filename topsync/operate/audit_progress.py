"""How far an audit has come, for whoever waits: a status on a terminal, else a line now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from topsync.base.progress_bars import moving
from topsync.verify.audit import Compared, Stage

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
def showing() -> Iterator[Callable[[Stage], None]]:
    """Show each stage on standard error; what the audit prints is not mixed with it."""
    with moving(every_seconds=LINE_EVERY_SECONDS) as show:
        yield lambda stage: show(describe(stage), "")
