"""Waiting for what happens elsewhere, with a bound: in other tasks, in other processes, on a server."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable

from tests.support import sight

POLL_SECONDS = 0.02

PAUSE_FACTOR, LONGEST_PAUSE_SECONDS = 4, 0.25
"""What takes long is asked less often: a connection made for each question, or a topic read, would otherwise
take most of a core from those it waits for."""

Condition = Callable[[], object]
"""What is asked for its truth: a function, or a coroutine function that has to ask somebody else."""


class StillNotTrueError(TimeoutError):
    """What a test waited for did not come true in time; says the condition, and what it sees now."""


class NoLongerTrueError(AssertionError):
    """What had to stay true did not; says the condition, and what it sees now."""


async def eventually(condition: Condition, *, within_seconds: float = 60.0) -> None:
    """Return when `condition()` is true.

    Raises:
        StillNotTrueError: it was not, within `within_seconds`.
    """
    try:
        async with asyncio.timeout(within_seconds) as bound:
            asked_at = time.monotonic()
            while not await _answer(condition):
                await _pause_after(asked_at)
                asked_at = time.monotonic()
    except TimeoutError as error:
        if not bound.expired():
            raise  # the condition's own
        seen = await sight.describe(condition)
        raise StillNotTrueError(f"not true within {within_seconds:g} s\n{seen}") from error


async def holds(condition: Condition, *, for_seconds: float) -> None:
    """Return after `for_seconds` in which `condition()` was always true.

    For what must not happen: choose a time in which it would have happened many times over.

    Raises:
        NoLongerTrueError: as soon as it is not.
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
