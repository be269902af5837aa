"""Carries out work on many things, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def each(things: AsyncIterable[T], work: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Do the work on each thing, on `at_once` of them at a time; the next is taken when there is room for it.

    The first failure is raised, and cancels the others; so does a cancellation.
    """
    running: set[asyncio.Future[None]] = set()
    try:
        async for thing in things:
            running.add(asyncio.ensure_future(work(thing)))
            if len(running) >= at_once:
                running = await _until_one_is_done(running)
        while running:
            running = await _until_one_is_done(running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _until_one_is_done(running: set[asyncio.Future[None]]) -> set[asyncio.Future[None]]:
    done, left = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return left
