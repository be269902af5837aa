"""Something that runs until it is stopped, beside a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def running(
    run: Callable[[Callable[[], bool]], Coroutine[None, None, None]], *, within_seconds: float
) -> AsyncIterator[None]:
    """`run` is given what says whether to stop. In the end it is stopped in good order, within so long."""
    stopping = asyncio.Event()
    task = asyncio.create_task(run(stopping.is_set))
    try:
        yield
        stopping.set()
        await asyncio.wait_for(task, within_seconds)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
