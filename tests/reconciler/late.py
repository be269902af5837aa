"""A process that stands still in the middle of a duty's round, and goes on when another has the duty."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any


class Frozen:
    """Stands in for a part of a process: after a call of a method, the process stands still.

    `when` says after which answer.
    """

    def __init__(self, real: Any, method: str, when: Callable[[object], bool] = lambda _: True) -> None:
        self._real = real
        self._method = method
        self._when = when
        self._thawed = asyncio.Event()
        self.reached = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return self._freezing(real) if name == self._method else real

    def _freezing(self, real: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def call(*arguments: object, **named: object) -> object:
            answer = await real(*arguments, **named)
            if self._when(answer):
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
