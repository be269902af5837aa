"""Shows the progress of an audit: a status on a terminal, elsewhere a line now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from topsync.base.progress_bars import moving
from topsync.model.kind import IN_WORDS
from topsync.verify.audit import Compared, Stage

LINE_EVERY_SECONDS = 5.0


def describe(stage: Stage) -> str:
    """A stage in words."""
    if isinstance(stage, Compared):
        return f"compared {stage.sellers} of {stage.of} sellers"
    holes = f", and {stage.holes} spans that nothing vouches for" if stage.holes else ""
    return (
        f"{stage.differing} {IN_WORDS} still on the move{holes}: "
        f"looking again for up to {stage.seconds_left:.0f} s"
    )


@contextmanager
def showing() -> Iterator[Callable[[Stage], None]]:
    """Show each stage on standard error, apart from the audit's output."""
    with moving(every_seconds=LINE_EVERY_SECONDS) as show:
        yield lambda stage: show(describe(stage), "")
