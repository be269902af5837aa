"""Shows the steps of the set-up, a line each, which moves on a terminal. Standard library only."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

REDRAW_SECONDS: Final = 0.2
BAR_CHARACTERS: Final = 24
LINE_AGAIN: Final = "\r\x1b[K"

Share = Callable[[], float | None]
"""How much is done, from 0 to 1; None when it is not known."""


def line(what: str, seconds: float, share: float | None) -> str:
    """The line for a step under way."""
    if share is None:
        return f"setup: {what} ... {seconds:.0f} s"
    filled = round(min(max(share, 0.0), 1.0) * BAR_CHARACTERS)
    bar = "#" * filled + "." * (BAR_CHARACTERS - filled)
    return f"setup: {what} [{bar}] {seconds:.0f} s"


@contextmanager
def step(what: str, share: Share = lambda: None) -> Iterator[None]:
    """Show what is being done, its progress, and how long it took; without a terminal nothing moves."""
    started = time.monotonic()
    over = threading.Event()
    drawing = threading.Thread(target=_draw, args=(what, share, started, over), daemon=True)
    if sys.stdout.isatty():
        drawing.start()
    else:
        _write(f"setup: {what} ... ")
    try:
        yield
    finally:
        over.set()
        if sys.stdout.isatty():
            drawing.join()
            _write(f"{LINE_AGAIN}setup: {what} ... ")
    _write(f"{time.monotonic() - started:.1f} s\n")


def _draw(what: str, share: Share, started: float, over: threading.Event) -> None:
    while True:
        _write(LINE_AGAIN + line(what, time.monotonic() - started, share()))
        if over.wait(REDRAW_SECONDS):
            return


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
