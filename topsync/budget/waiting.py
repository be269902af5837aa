"""Who waits at the gate, in which order they go, and which places have been leased for them.

Pure bookkeeping: nothing here waits, and moments are those of the process's monotonic clock, handed in.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from topsync.budget.leases import LEASE_SECONDS, LeaseGrant
from topsync.model.priority import Priority

SLICE_SECONDS: Final = 0.1
"""Future calls are estimated from the calls of the last slice: at most this much is leased in vain."""

MAX_LEASE: Final = 1_000
"""Most places in a single ask."""

OLDEST_EVERY: Final = 8
"""Every 8th call goes to whoever waits longest. Where slots in flight are what is scarce, the live priority
would otherwise keep the others out of this process for ever."""

Caller = asyncio.Future[bool]
"""Somebody who waits: true is a permit, false says to look again (a ban came, or the day ended)."""


@dataclass(frozen=True, slots=True)
class LeasedPlace:
    """A place for a single call: to be used between these two moments, or not at all."""

    at: float
    lapses_at: float


@dataclass(slots=True)
class Queue:
    """Callers of the same priority and scope, first come first served, and the places leased for them.

    Attributes:
        waiting: callers with their API and since when they wait; whoever gives up leaves from the middle.
        ask_at: when to ask for more places.
        slice_at, admitted, admitted_before: calls begun in this slice of time and in the last.
    """

    priority: Priority
    scope: str
    waiting: OrderedDict[Caller, tuple[str, float]] = field(default_factory=OrderedDict)
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
        """How many calls are likely to follow soon: leasing for them as well saves a statement each."""
        return max(self.admitted, self.admitted_before) if now < self.slice_at + 2 * SLICE_SECONDS else 0

    def drop_lapsed(self, now: float) -> int:
        """Forget places that can no longer be used; how many."""
        dropped = 0
        while self.places and self.places[0].lapses_at <= now:
            self.places.popleft()
            dropped += 1
        return dropped

    def is_due(self, now: float) -> bool:
        """Whether a place can be used now."""
        return bool(self.places) and self.places[0].at <= now

    def add_places(self, grant: LeaseGrant, *, asked_at: float, now: float) -> None:
        """Take in what the book has granted: never early, since it answered before the answer came, and never
        late, since it answered after the question.
        """
        first = now + grant.starts_in_seconds
        self.places.extend(
            LeasedPlace(first + number * grant.spacing_seconds, asked_at + LEASE_SECONDS)
            for number in range(grant.calls)
        )


class WaitingRoom:
    """The queues of a process, and its slots in flight."""

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._admitted = 0
        self._returned = 0
        self._queues: dict[tuple[Priority, str], Queue] = {}

    def queue(self, priority: Priority, scope: str) -> Queue:
        """The queue of this priority and scope."""
        found = self._queues.get((priority, scope))
        if found is None:
            found = self._queues[priority, scope] = Queue(priority, scope)
            self._queues = dict(sorted(self._queues.items()))
        return found

    @property
    def queues(self) -> Collection[Queue]:
        """All queues, the first priority's first."""
        return self._queues.values()

    def admit_at_once(self, queue: Queue, now: float) -> bool:
        """Admit a caller who finds a slot in flight and a place that is due. Nobody else must be waiting."""
        if self._in_flight >= self._max_in_flight:
            return False
        self._returned += queue.drop_lapsed(now)
        if not queue.is_due(now):
            return False
        self._admit(queue, now)
        return True

    def admit(self, now: float) -> Iterator[Caller]:
        """Admit those who wait, as far as places and slots go: the permits to be given, in their order."""
        for queue in self.queues:
            self._returned += queue.drop_lapsed(now)
        while self._in_flight < self._max_in_flight and (turn := self._next(now)):
            caller, _ = turn.waiting.popitem(last=False)
            if caller.done():
                # It was cancelled, and its turn in which it leaves the queue has not come.
                turn.places.popleft()
                self._returned += 1
            else:
                self._admit(turn, now)
                yield caller

    def _admit(self, queue: Queue, now: float) -> None:
        queue.places.popleft()
        self._in_flight += 1
        self._admitted += 1
        queue.note_call(now)

    def _next(self, now: float) -> Queue | None:
        """Which queue with a due place comes next: the first priority's, or the longest waiting caller's."""
        ready = (queue for queue in self.queues if queue.waiting and queue.is_due(now))
        if self._admitted % OLDEST_EVERY == OLDEST_EVERY - 1:
            return min(ready, key=lambda queue: queue.since, default=None)
        return next(ready, None)

    def leave(self, *, called: bool = True) -> None:
        """A call has ended; or it was not made, and its place goes back to the book."""
        self._in_flight -= 1
        if not called:
            self._returned += 1

    def turn_away(self, concerns: Callable[[Queue, str], bool]) -> list[Caller]:
        """Take out of the queues everybody whom this `(queue, api)` concerns."""
        gone = []
        for queue in self.queues:
            for caller, (api, _) in list(queue.waiting.items()):
                if concerns(queue, api):
                    del queue.waiting[caller]
                    gone.append(caller)
        return gone

    def next_place_at(self) -> float | None:
        """When somebody who waits may go; None where no slot or no place is left to wait for."""
        if self._in_flight >= self._max_in_flight:
            return None
        due = [queue.places[0].at for queue in self.queues if queue.waiting and queue.places]
        return min(due, default=None)

    def short(self, now: float) -> list[Queue]:
        """The queues for which it is time to lease, the first priority's first."""
        return [queue for queue in self.queues if self.is_short(queue, now)]

    def is_short(self, queue: Queue, now: float) -> bool:
        """Whether it is time to lease. While nobody waits, it is time before the last place is gone: a lease
        takes a moment, in which new callers would have to wait. No more is leased than for waiting callers.
        """
        if queue.waiting:
            return self._lacks(queue) > 0
        return len(queue.places) < queue.expected_calls(now) // 2

    def to_lease(self, queue: Queue, now: float) -> int:
        """How many places to ask for."""
        return min(MAX_LEASE, self._lacks(queue) + queue.expected_calls(now))

    def _lacks(self, queue: Queue) -> int:
        """How many places are missing for callers who could be admitted; below 0, how many are left."""
        free = max(1, self._max_in_flight - self._in_flight)
        return min(len(queue.waiting), free) - len(queue.places)

    def take_returned(self) -> int:
        """How many leased calls were not made since this was asked last. They are not given back twice:
        when a report to the book fails, the book may have received it.
        """
        returned, self._returned = self._returned, 0
        return returned
