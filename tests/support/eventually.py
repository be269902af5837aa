"""Waiting for what happens elsewhere, with a bound: in other tasks, in other processes, on a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.02

PAUSE_FACTOR, LONGEST_PAUSE_SECONDS = 4, 0.25
"""What takes long is asked less often: a connection made for each question, or a topic read, would otherwise
take most of a core from those it waits for."""

Condition = Callable[[], Awaitable[bool]]


async def eventually(condition: Condition, *, within_seconds: float = 60.0) -> None:
    """Return when `condition()` is true; TimeoutError after `within_seconds`."""
    async with asyncio.timeout(within_seconds):
        asked_at = time.monotonic()
        while not await condition():
            await _pause_after(asked_at)
            asked_at = time.monotonic()


async def until(condition: Callable[[], bool], *, within_seconds: float = 10.0) -> None:
    """`eventually`, for what can be seen without asking anybody."""

    async def seen() -> bool:
        return condition()

    await eventually(seen, within_seconds=within_seconds)


async def holds(condition: Condition, *, for_seconds: float) -> None:
    """Return after `for_seconds` in which `condition()` was always true; AssertionError as soon as it is not.

    For what must not happen: choose a time in which it would have happened many times over.
    """
    asked_at = time.monotonic()
    deadline = asked_at + for_seconds
    while asked_at < deadline:
        assert await condition(), "what had to stay true became false"
        await _pause_after(asked_at)
        asked_at = time.monotonic()


async def _pause_after(asked_at: float) -> None:
    took = time.monotonic() - asked_at
    await asyncio.sleep(min(max(POLL_SECONDS, PAUSE_FACTOR * took), LONGEST_PAUSE_SECONDS))
