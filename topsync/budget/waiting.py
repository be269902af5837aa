"""Those who wait at the gate, and the places that have been leased for them. Pure bookkeeping."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from topsync.model.priority import Priority

SLICE_SECONDS: Final = 0.025
"""The calls to come are guessed from those of the last slice: so much is leased in vain at most."""


@dataclass(frozen=True, slots=True)
class LeasedPlace:
    """A leased place, in this process's monotonic time."""

    at: float
    lapses_at: float


@dataclass(slots=True)
class Queue:
    """Callers of one priority and scope, first come first served, and the places leased for them.

    Attributes:
        waiting: an answer to come, its API and since when; a caller that gives up leaves from the middle.
        ask_at: no ask before.
        slice_at, admitted, admitted_before: calls begun in this slice of time and in the last.
    """

    priority: Priority
    scope: str
    waiting: OrderedDict[asyncio.Future[bool], tuple[str, float]] = field(default_factory=OrderedDict)
    places: deque[LeasedPlace] = field(default_factory=deque)
    ask_at: float = float("-inf")
    slice_at: float = 0.0
    admitted: int = 0
    admitted_before: int = 0

    @property
    def since(self) -> float:
        """Since when the first caller waits."""
        return next(iter(self.waiting.values()))[1]

    def note_call(self, now: float) -> None:
        """Count a call begun, for `expected_calls`."""
        if now >= self.slice_at + SLICE_SECONDS:
            follows = now < self.slice_at + 2 * SLICE_SECONDS
            self.admitted_before = self.admitted if follows else 0
            self.slice_at, self.admitted = now, 0
        self.admitted += 1

    def expected_calls(self, now: float) -> int:
        """How many calls are likely to follow soon: leased along, they save a statement each."""
        return max(self.admitted, self.admitted_before) if now < self.slice_at + 2 * SLICE_SECONDS else 0

    def drop_lapsed(self, now: float) -> int:
        """Forget places that can no longer be used; how many."""
        dropped = 0
        while self.places and self.places[0].lapses_at <= now:
            self.places.popleft()
            dropped += 1
        return dropped

    def is_due(self, now: float) -> bool:
        """Whether there is a place to be used now."""
        return bool(self.places) and self.places[0].at <= now
