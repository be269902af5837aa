"""Wait, with a bound, for what happens elsewhere: in other tasks, in other processes, on a server."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable

from tests.support import sight

POLL_SECONDS = 0.02

PAUSE_FACTOR, LONGEST_PAUSE_SECONDS = 4, 0.25
"""A slow condition is asked less often: if each question opens a connection or reads a topic, it would take
most of a core from the processes that it waits for."""

Condition = Callable[[], object]
"""What is asked whether it is true: a function, or a coroutine function if it must ask others."""


class StillNotTrueError(TimeoutError):
    """A condition did not become true in time; the text has the condition, and what it sees now."""


class NoLongerTrueError(AssertionError):
    """A condition did not stay true; the text has the condition, and what it sees now."""


async def eventually(condition: Condition, *, within_seconds: float = 60.0) -> None:
    """Return when `condition()` is true.

    Raises:
        StillNotTrueError: it did not become true within `within_seconds`.
    """
    try:
        async with asyncio.timeout(within_seconds) as bound:
            asked_at = time.monotonic()
            while not await _answer(condition):
                await _pause_after(asked_at)
                asked_at = time.monotonic()
    except TimeoutError as error:
        if not bound.expired():
            raise  # the condition's own time-out
        seen = await sight.describe(condition)
        raise StillNotTrueError(f"not true within {within_seconds:g} s\n{seen}") from error


async def holds(condition: Condition, *, for_seconds: float) -> None:
    """Return after `for_seconds` in which `condition()` was always true.

    For things that must not happen: choose a time in which they would have happened many times.

    Raises:
        NoLongerTrueError: it became false; raised at once.
    """
    asked_at = time.monotonic()
    deadline = asked_at + for_seconds
    while asked_at < deadline:
        if not await _answer(condition):
            raise NoLongerTrueError(f"what had to stay true is not\n{await sight.describe(condition)}")
        await _pause_after(asked_at)
        asked_at = time.monotonic()


async def _answer(condition: Condition) -> object:
    answer = condition()
    return await answer if inspect.isawaitable(answer) else answer


async def _pause_after(asked_at: float) -> None:
    took = time.monotonic() - asked_at
    await asyncio.sleep(min(max(POLL_SECONDS, PAUSE_FACTOR * took), LONGEST_PAUSE_SECONDS))
