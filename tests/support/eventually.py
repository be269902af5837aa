"""Waiting for what happens elsewhere, with a bound: in other tasks, in other processes, on a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.02

Condition = Callable[[], Awaitable[bool]]


async def eventually(condition: Condition, *, within_seconds: float = 60.0) -> None:
    """Return when `condition()` is true; TimeoutError after `within_seconds`."""
    async with asyncio.timeout(within_seconds):
        while not await condition():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(POLL_SECONDS)


async def until(condition: Callable[[], bool], *, within_seconds: float = 10.0) -> None:
    """`eventually`, for what can be seen without asking anybody."""

    async def seen() -> bool:
        return condition()

    await eventually(seen, within_seconds=within_seconds)


async def holds(condition: Condition, *, for_seconds: float) -> None:
    """Return after `for_seconds` in which `condition()` was always true; AssertionError as soon as it is not.

    For what must not happen: choose a time in which it would have happened many times over.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + for_seconds
    while loop.time() < deadline:
        assert await condition(), "what had to stay true became false"
        await asyncio.sleep(POLL_SECONDS)
