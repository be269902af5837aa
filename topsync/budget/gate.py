"""The gate that every call passes: how many at once, how many a second, and none during a ban.

`Gate` is the seam. `BudgetGate` is the gate of one process; the places it gives away it leases from a
`Book`, which all processes share (`topsync.store.shared_budget`) or which is this process's alone
(`LocalBook`).
A permit is asked for before each attempt, retries included, so that no code path can call past the budget.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from topsync.budget.book import Book, BookAwayError
from topsync.budget.errors import CallLimitedError, Scope
from topsync.budget.leases import LEASE_SECONDS, Ask
from topsync.budget.waiting import LeasedPlace, Queue
from topsync.model.call_limits import APP
from topsync.model.priority import Priority

POLL_SECONDS: Final = 0.02
"""The longest pause between two asks for a place that could be free. Shorter than a priority's step ahead."""

AWAY_SECONDS: Final = 0.5
"""Pause after the book could not be reached."""

MAX_LEASE: Final = 1_000
"""Most places in one ask."""

OLDEST_EVERY: Final = 8
"""Each so-manieth call goes to whoever waits longest: where calls in flight are what is scarce, the live
priority would otherwise keep the others out of this process for ever."""

QUOTA_CHECK_SECONDS: Final = 60.0
"""How often a process whose day is spent asks whether it still is."""

_NEVER: Final = float("-inf")

_uniform = random.SystemRandom().uniform


class Gate(Protocol):
    """Permission to call."""

    def admit(self, api: str, priority: Priority) -> AbstractAsyncContextManager[None]:
        """Wait for a permit for one attempt; the block is the attempt.

        No ban of `api` or of the app is known when the block is entered, and the call must be sent before
        the block awaits anything else.

        Raises:
            CallLimitedError: no permit within the gate's bound; no call was made.
        """
        ...

    async def ban(self, scope: Scope, api: str, wait_seconds: float) -> None:
        """Close the gate of `scope` for `wait_seconds` from now. Bans only ever grow: a shorter one that
        arrives later does not open the gate earlier. `Scope.SELLER` closes nothing: it is the caller's.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """Bounds of one process's calls.

    Attributes:
        max_in_flight: attempts under way at the same time.
        max_wait_seconds: longest wait for a permit; above it the work goes back to its queue.
        max_waiting: callers that wait at the same time.
        ban_jitter_seconds: a ban is lengthened by up to this much, drawn once for each process: processes
            do not come back together.
    """

    max_in_flight: int = 32
    max_wait_seconds: float = 90.0
    max_waiting: int = 10_000
    ban_jitter_seconds: float = 1.0


class BudgetGate:
    """The gate of one process and one event loop. `_admit` is the only place that admits anyone.

    While the book is away nobody is admitted but on places leased before, for at most `LEASE_SECONDS`:
    what a call brings could not be stored without the database anyway. Waiting stays bounded, and calls
    resume within `AWAY_SECONDS` of its return.
    """

    def __init__(self, book: Book, config: GateConfig | None = None) -> None:
        self._book = book
        self._config = config or GateConfig()
        self._jitter_seconds = _uniform(0.0, self._config.ban_jitter_seconds)
        self._in_flight = 0
        self._waiting = 0
        self._admitted = 0
        self._returned = 0
        self._opens_at: dict[str, float] = {}
        self._untold: dict[str, float] = {}
        self._day_opens_at: dict[Priority, tuple[float, float]] = {}
        self._queues: dict[tuple[Priority, str], Queue] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        book.on_ban(self._heard_ban)

    def admit(self, api: str, priority: Priority) -> AbstractAsyncContextManager[None]:
        """See `Gate.admit`."""
        return _Admission(self, api, priority)

    async def enter(self, api: str, priority: Priority) -> None:
        """What `admit` begins with."""
        self._require_day(api, priority)
        if not self._admits_at_once(api, priority):
            await self._wait_bounded(api, priority)

    def leave(self) -> None:
        """What `admit` ends with."""
        self._in_flight -= 1
        if self._waiting:
            self._let_through()

    async def ban(self, scope: Scope, api: str, wait_seconds: float) -> None:
        """See `Gate.ban`. When this returns, the ban is in the book, unless that is away: then it is told
        before the next lease, and this process keeps it from now on.
        """
        if scope is Scope.SELLER:
            return
        name = APP if scope is Scope.APP else api
        until = time.monotonic() + wait_seconds
        self._close(name, until)
        self._untold[name] = max(self._untold.get(name, until), until)
        try:
            await self._tell_bans()
        except BookAwayError:
            self._ask()

    def closed_for_seconds(self, api: str) -> float:
        """How long a ban still holds `api` back; 0 when there is none."""
        return max(0.0, self._opened_at(api) - time.monotonic())

    def _opened_at(self, api: str) -> float:
        return max(self._opens_at.get(APP, _NEVER), self._opens_at.get(api, _NEVER))

    def _heard_ban(self, scope: str, seconds: float) -> None:
        self._close(scope, time.monotonic() + seconds)

    def _close(self, scope: str, until: float) -> None:
        opens_at = until + self._jitter_seconds
        if opens_at <= self._opens_at.get(scope, _NEVER):
            return
        self._opens_at[scope] = opens_at
        for queue in self._queues.values():
            for caller, (api, _) in list(queue.waiting.items()):
                if scope in (APP, api):
                    del queue.waiting[caller]
                    _answer(caller, permit=False)

    def _admits_at_once(self, api: str, priority: Priority) -> bool:
        """Admit a caller who finds nobody waiting, a slot in flight and a place that is due, without a queue
        and a bound on the wait.
        """
        queue = self._queues.get((priority, self._book.limits.scope_of(api)))
        if queue is None or self._waiting or self._in_flight >= self._config.max_in_flight:
            return False
        now = time.monotonic()
        self._returned += queue.drop_lapsed(now)
        if not queue.is_due(now) or now < self._opened_at(api):
            return False
        self._admit(queue, now)
        if self._is_short(queue, now):
            self._ask()
        return True

    async def _wait_bounded(self, api: str, priority: Priority) -> None:
        if self._waiting >= self._config.max_waiting:
            raise self._refusal(api, f"{self._waiting} callers are waiting already")
        deadline = time.monotonic() + self._config.max_wait_seconds
        self._waiting += 1
        try:
            async with asyncio.timeout(self._config.max_wait_seconds) as bound:
                await self._wait(api, priority, deadline)
        except TimeoutError:
            if not bound.expired():
                raise
            raise self._refusal(api, f"no permit within {self._config.max_wait_seconds:.0f} s") from None
        finally:
            self._waiting -= 1

    async def _wait(self, api: str, priority: Priority, deadline: float) -> None:
        while True:
            self._require_day(api, priority)
            while closed := self.closed_for_seconds(api):
                if time.monotonic() + closed > deadline:
                    raise self._refusal(api, "banned")
                await asyncio.sleep(closed)
            if not await self._permit(api, priority):
                continue
            if not self.closed_for_seconds(api):
                return
            # A ban came between the permit and this task's turn: the call is not made.
            self._give_back()

    def _require_day(self, api: str, priority: Priority) -> None:
        if priority not in self._day_opens_at:
            return
        check_at, ends_at = self._day_opens_at[priority]
        now = time.monotonic()
        if now < min(check_at, ends_at):
            raise CallLimitedError(
                "not called: the day's calls are used up",
                scope=Scope.APP,
                wait_seconds=ends_at - now,
                api=api,
            )

    async def _permit(self, api: str, priority: Priority) -> bool:
        """Queue for a place and a slot in flight; False when a ban or the day's end came first."""
        key = (priority, self._book.limits.scope_of(api))
        queue = self._queues.get(key) or self._new_queue(*key)
        caller: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        queue.waiting[caller] = (api, time.monotonic())
        self._let_through()
        try:
            return await caller
        except asyncio.CancelledError:
            queue.waiting.pop(caller, None)
            if caller.done() and not caller.cancelled() and caller.result():
                self._give_back()
            raise

    def _new_queue(self, priority: Priority, scope: str) -> Queue:
        self._queues[priority, scope] = queue = Queue(priority, scope)
        self._queues = dict(sorted(self._queues.items()))
        return queue

    def _let_through(self) -> None:
        """Admit whom places and slots allow; see that the others get theirs."""
        now = time.monotonic()
        for queue in self._queues.values():
            self._returned += queue.drop_lapsed(now)
        while self._in_flight < self._config.max_in_flight and (turn := self._next(now)):
            caller, _ = turn.waiting.popitem(last=False)
            if caller.done():
                # It was cancelled, and has not had the turn in which it leaves the queue.
                turn.places.popleft()
                self._returned += 1
                continue
            self._admit(turn, now)
            _answer(caller, permit=True)
        self._set_timer()
        if any(self._is_short(queue, now) for queue in self._queues.values()):
            self._ask()

    def _admit(self, queue: Queue, now: float) -> None:
        queue.places.popleft()
        self._in_flight += 1
        self._admitted += 1
        queue.note_call(now)

    def _next(self, now: float) -> Queue | None:
        """Whose turn it is, of those with a place that is due: the first priority's, or the oldest's."""
        ready = (queue for queue in self._queues.values() if queue.waiting and queue.is_due(now))
        if self._admitted % OLDEST_EVERY == OLDEST_EVERY - 1:
            return min(ready, key=lambda queue: queue.since, default=None)
        return next(ready, None)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._in_flight < self._config.max_in_flight:
            due = [queue.places[0].at for queue in self._queues.values() if queue.waiting and queue.places]
            if due:
                early = max(0.0, min(due) - time.monotonic())
                self._timer = asyncio.get_running_loop().call_later(early, self._let_through)

    def _give_back(self) -> None:
        self._returned += 1
        self.leave()

    def _ask(self) -> None:
        self._wanted.set()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask_while_wanted())
            self._asking.add_done_callback(self._stopped_asking)

    def _stopped_asking(self, asking: asyncio.Task[None]) -> None:
        """Hand a failure that no pause mends to those who wait; the next caller's ask begins anew."""
        if asking.cancelled() or (error := asking.exception()) is None:
            return
        for queue in self._queues.values():
            while queue.waiting:
                caller, _ = queue.waiting.popitem(last=False)
                if not caller.done():
                    caller.set_exception(error)

    async def _ask_while_wanted(self) -> None:
        """Lease for those who wait and are expected, the first priority first; ends when there is enough."""
        while True:
            self._wanted.clear()
            now = time.monotonic()
            short = [queue for queue in self._queues.values() if self._is_short(queue, now)]
            if not short and not self._untold:
                return
            try:
                await self._tell_bans()
                # One ask each: a priority that is never satisfied must not keep the others from asking.
                for queue in short:
                    now = time.monotonic()
                    if queue.ask_at <= now and self._is_short(queue, now):
                        await self._lease(queue)
            except BookAwayError:
                await asyncio.sleep(AWAY_SECONDS)
            else:
                await self._pause_until(min((queue.ask_at for queue in short), default=0.0))

    async def _pause_until(self, moment: float) -> None:
        seconds = moment - time.monotonic()
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), seconds)

    def _is_short(self, queue: Queue, now: float) -> bool:
        """Whether it is time to lease. While nobody waits it is so before the last place is gone: a lease
        takes a moment, in which callers would come to wait. No more is held than when they had to.
        """
        if queue.waiting:
            return self._lacks(queue) > 0
        return len(queue.places) < queue.expected_calls(now) // 2

    def _lacks(self, queue: Queue) -> int:
        """How many places are missing for callers who could be let through; below 0, how many are left."""
        free = max(1, self._config.max_in_flight - self._in_flight)
        return min(len(queue.waiting), free) - len(queue.places)

    async def _lease(self, queue: Queue) -> None:
        asked_at = time.monotonic()
        wanted = min(MAX_LEASE, self._lacks(queue) + queue.expected_calls(asked_at))
        # Not given back again when this fails: then they may have been taken.
        returned, self._returned = self._returned, 0
        grant = await self._book.lease(Ask(queue.priority, queue.scope, wanted, returned))
        now = time.monotonic()
        for number in range(grant.calls):
            # Never early, since the answer was given before it came; never late, since after the question.
            at = now + grant.starts_in_seconds + number * grant.spacing_seconds
            queue.places.append(LeasedPlace(at, asked_at + LEASE_SECONDS))
        if grant.calls < wanted:
            queue.ask_at = now + max(grant.again_in_seconds, POLL_SECONDS * _uniform(0.25, 1.0))
        for scope, seconds in grant.bans.items():
            self._close(scope, now + seconds)
        if grant.day_is_spent and not queue.places:
            self._end_day(queue, now, grant.day_ends_in_seconds)
        self._let_through()

    def _end_day(self, queue: Queue, now: float, seconds: float) -> None:
        self._day_opens_at[queue.priority] = (now + QUOTA_CHECK_SECONDS, now + seconds)
        for each in self._queues.values():
            while each.priority is queue.priority and each.waiting:
                caller, _ = each.waiting.popitem(last=False)
                _answer(caller, permit=False)

    async def _tell_bans(self) -> None:
        for scope, until in list(self._untold.items()):
            if (seconds := until - time.monotonic()) > 0:
                await self._book.ban(scope, seconds)
            if self._untold.get(scope) == until:
                del self._untold[scope]

    def _refusal(self, api: str, summary: str) -> CallLimitedError:
        closed = self.closed_for_seconds(api)
        only_this_api = closed > 0 and self._opens_at.get(api, _NEVER) > self._opens_at.get(APP, _NEVER)
        scope = Scope.API if only_this_api else Scope.APP
        wait_seconds = closed or self._config.max_wait_seconds
        return CallLimitedError(f"not called: {summary}", scope=scope, wait_seconds=wait_seconds, api=api)


class _Admission:
    """One passage of the gate."""

    __slots__ = ("_api", "_gate", "_priority")

    def __init__(self, gate: BudgetGate, api: str, priority: Priority) -> None:
        self._gate = gate
        self._api = api
        self._priority = priority

    async def __aenter__(self) -> None:
        await self._gate.enter(self._api, self._priority)

    async def __aexit__(self, *_: object) -> None:
        self._gate.leave()


def _answer(caller: asyncio.Future[bool], *, permit: bool) -> None:
    # A cancelled caller is done already and has not left its queue yet.
    if not caller.done():
        caller.set_result(permit)
