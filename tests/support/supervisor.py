"""Restarts services that have ended, as a cluster would, and notes how each of them ended."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import TracebackType
from typing import Self

from topsync.local.system import System

POLL_SECONDS = 0.05
RESTART_SECONDS = 0.5
"""Between an end and the new start; a cluster waits longer, and each time longer."""

MOST_ENDS = 20
"""A service that ends more often than this in a test has an error."""


class Supervisor:
    """Keeps the named services of a system running while it is entered; all must run already."""

    def __init__(self, system: System, names: Collection[str]) -> None:
        self._system = system
        self._names = names
        self._ended: list[tuple[str, int]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    def take_ended(self) -> list[tuple[str, int]]:
        """The services that have ended since the last call, with their status, in order."""
        assert self._task is not None
        if self._task.done():
            self._task.result()
        ended, self._ended = self._ended, []
        return ended

    async def _run(self) -> None:
        while len(self._ended) < MOST_ENDS:
            for name in self._names:
                status = self._system.processes[name].returncode
                if status is not None:
                    self._ended.append((name, status))
                    await asyncio.sleep(RESTART_SECONDS)
                    await self._system.start(name)
            await asyncio.sleep(POLL_SECONDS)
        raise AssertionError(f"services end again and again: {self._ended}")
