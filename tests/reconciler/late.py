"""A process that stands still in the middle of a duty's round, and goes on when another has the duty."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any


class Frozen:
    """Stands in for a part of a process: after its first call of a method, the process stands still."""

    def __init__(self, real: Any, method: str) -> None:
        self._real = real
        self._method = method
        self._thawed = asyncio.Event()
        self.reached = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return self._freezing(real) if name == self._method else real

    def _freezing(self, real: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def call(*arguments: object, **named: object) -> object:
            answer = await real(*arguments, **named)
            self.reached.set()
            await self._thawed.wait()
            return answer

        return call

    def thaw(self) -> None:
        self._thawed.set()


@asynccontextmanager
async def a_late_round(round_: Callable[[], Awaitable[None]], at: Frozen) -> AsyncIterator[None]:
    """While the block runs, the round stands still in its middle; then it goes on to its end."""
    going_on = asyncio.ensure_future(round_())
    try:
        await asyncio.wait_for(at.reached.wait(), 20)
        yield
        at.thaw()
        await going_on
    finally:
        going_on.cancel()
        await asyncio.gather(going_on, return_exceptions=True)
