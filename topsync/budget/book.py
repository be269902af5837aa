"""Where the places on the time line of calls are kept: shared by all processes, or this process's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from topsync.budget import leases
from topsync.budget.leases import Ask, LeaseGrant, TimeLine
from topsync.model.call_limits import CallLimits


class BookAwayError(Exception):
    """The book cannot be reached: what it was asked may have been noted or not."""


class Book(Protocol):
    """Where the places on the time line are kept (`topsync.budget.leases`)."""

    @property
    def limits(self) -> CallLimits:
        """The limits that the book keeps."""
        ...

    def on_ban(self, heard: Callable[[str, float], None]) -> None:
        """Have `heard(scope, seconds)` called as soon as somebody's ban is known. A single listener."""
        ...

    async def lease(self, ask: Ask) -> LeaseGrant:
        """Answer an ask.

        Raises:
            BookAwayError: try again later.
        """
        ...

    async def ban(self, scope: str, seconds: float) -> None:
        """Note a ban for everybody; of two bans the later end counts.

        Raises:
            BookAwayError: try again later.
        """
        ...


class LocalBook:
    """A book of this process's own, without a day's quota: for tests and tools that call without a store."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self._lines: dict[str, TimeLine] = {}

    @property
    def limits(self) -> CallLimits:
        """See `Book.limits`."""
        return self._limits

    def on_ban(self, heard: Callable[[str, float], None]) -> None:
        """See `Book.on_ban`: nobody else's ban is ever heard of."""

    async def lease(self, ask: Ask) -> LeaseGrant:
        """See `Book.lease`."""
        return leases.lease(self._lines, self._limits, ask, time.monotonic())

    async def ban(self, scope: str, seconds: float) -> None:
        """See `Book.ban`: the gate keeps its own bans."""
