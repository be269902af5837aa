"""The gate that every call passes: how many at once, how many a second, and no call during a ban.

`Gate` is the seam. `BudgetGate` is the gate of a process; the places it gives away it leases from a
`Book`, which all processes share (`topsync.store.shared_budget`) or which is this process's alone
(`LocalBook`).
A permit is asked for before each attempt, retries included, so that no code path can call past the budget.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from topsync.budget.bans import Bans
from topsync.budget.book import Book, BookAwayError
from topsync.budget.errors import CallLimitedError, Scope
from topsync.budget.leases import Ask
from topsync.budget.waiting import Caller, Queue, WaitingRoom
from topsync.model.call_limits import APP
from topsync.model.priority import Priority

POLL_SECONDS: Final = 0.02
"""The longest pause between two asks for a place that could be free. Shorter than a priority's step ahead."""

AWAY_SECONDS: Final = 0.5
"""Pause after the book could not be reached."""

QUOTA_CHECK_SECONDS: Final = 60.0
"""How often a process whose day is spent asks whether it still is."""

_uniform = random.SystemRandom().uniform


class Gate(Protocol):
    """Permission to call."""

    def admit(self, api: str, priority: Priority) -> AbstractAsyncContextManager[None]:
        """Wait for a permit for an attempt; the block is the attempt.

        No ban of `api` or of the app is known when the block is entered, and the call must be sent before
        the block awaits anything else.

        Raises:
            CallLimitedError: no permit within the gate's bound; no call was made.
        """
        ...

    async def ban(self, scope: Scope, api: str, wait_seconds: float) -> None:
        """Close the gate of `scope` for `wait_seconds` from now. Bans only ever grow: a shorter ban that
        arrives later does not open the gate earlier. `Scope.SELLER` closes nothing: it is the caller's.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """Bounds of a process's calls.

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
    """The gate of a process and its event loop.

    While the book is away callers are admitted only to places leased before, for at most `LEASE_SECONDS`:
    what a call brings could not be stored without the database anyway. Waiting stays bounded, and calls
    resume within `AWAY_SECONDS` of its return.
    """

    def __init__(
        self, book: Book, config: GateConfig | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._book = book
        self._config = config or GateConfig()
        self._clock = clock
        self._bans = Bans(_uniform(0.0, self._config.ban_jitter_seconds))
        self._room = WaitingRoom(self._config.max_in_flight)
        self._waiting = 0
        self._spent_days: dict[Priority, _SpentDay] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        book.on_ban(lambda scope, seconds: self._close(scope, self._clock() + seconds))

    def admit(self, api: str, priority: Priority) -> AbstractAsyncContextManager[None]:
        """See `Gate.admit`."""
        return _Admission(self, api, priority)

    async def enter(self, api: str, priority: Priority) -> None:
        """What `admit` begins with."""
        now = self._clock()
        self._require_day(api, priority, now)
        if not self._admits_at_once(api, priority, now):
            await self._wait_bounded(api, priority)

    def leave(self) -> None:
        """What `admit` ends with."""
        self._room.leave()
        if self._waiting:
            self._let_through()

    async def ban(self, scope: Scope, api: str, wait_seconds: float) -> None:
        """See `Gate.ban`. When this returns, the ban is in the book, unless that is away: then it is reported
        before the next lease, and this process keeps it from now on.
        """
        if scope is Scope.SELLER:
            return
        name = APP if scope is Scope.APP else api
        until = self._clock() + wait_seconds
        self._close(name, until)
        self._bans.must_report(name, until)
        try:
            await self._report_bans()
        except BookAwayError:
            self._ask()

    def closed_for_seconds(self, api: str) -> float:
        """How long a ban still holds `api` back; 0 when there is no ban."""
        return self._bans.closed_seconds(api, self._clock())

    def _close(self, scope: str, until: float) -> None:
        if self._bans.close(scope, until):
            for caller in self._room.turn_away(lambda _, api: scope in (APP, api)):
                _answer(caller, permit=False)

    def _queue(self, api: str, priority: Priority) -> Queue:
        return self._room.queue(priority, self._book.limits.scope_of(api))

    def _admits_at_once(self, api: str, priority: Priority, now: float) -> bool:
        """Admit a caller who finds nobody waiting and a place that is due, without a queue and a bound."""
        queue = self._queue(api, priority)
        if self._waiting or now < self._bans.opens_at(api) or not self._room.admit_at_once(queue, now):
            return False
        if self._room.is_short(queue, now):
            self._ask()
        return True

    async def _wait_bounded(self, api: str, priority: Priority) -> None:
        if self._waiting >= self._config.max_waiting:
            raise self._refusal(api, f"{self._waiting} callers are waiting already")
        deadline = self._clock() + self._config.max_wait_seconds
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
            now = self._clock()
            self._require_day(api, priority, now)
            if closed := self._bans.closed_seconds(api, now):
                if now + closed > deadline:
                    raise self._refusal(api, "banned")
                await asyncio.sleep(closed)
            elif await self._permit(api, priority, now):
                if not self.closed_for_seconds(api):
                    return
                # A ban came between the permit and this task's turn: the call is not made.
                self._give_back()

    async def _permit(self, api: str, priority: Priority, now: float) -> bool:
        """Queue for a place and a slot in flight; False when a ban or the day's end came first."""
        queue = self._queue(api, priority)
        caller: Caller = asyncio.get_running_loop().create_future()
        queue.waiting[caller] = (api, now)
        self._let_through()
        try:
            return await caller
        except asyncio.CancelledError:
            queue.waiting.pop(caller, None)
            if caller.done() and not caller.cancelled() and caller.result():
                self._give_back()
            raise

    def _give_back(self) -> None:
        self._room.leave(called=False)
        if self._waiting:
            self._let_through()

    def _let_through(self) -> None:
        """Admit as many callers as places and slots allow; get places for the others."""
        now = self._clock()
        for caller in self._room.admit(now):
            _answer(caller, permit=True)
        self._set_timer(now)
        if self._room.short(now):
            self._ask()

    def _set_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (at := self._room.next_place_at()) is not None:
            early = max(0.0, at - now)
            self._timer = asyncio.get_running_loop().call_later(early, self._let_through)

    def _ask(self) -> None:
        self._wanted.set()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask_while_wanted())
            self._asking.add_done_callback(self._stopped_asking)

    def _stopped_asking(self, asking: asyncio.Task[None]) -> None:
        """Raise a failure that no pause ends at the callers who wait; the next caller's ask begins anew."""
        if asking.cancelled() or (error := asking.exception()) is None:
            return
        for caller in self._room.turn_away(lambda _, __: True):
            if not caller.done():
                caller.set_exception(error)

    async def _ask_while_wanted(self) -> None:
        """Lease for those who wait and are expected, the first priority first; ends when there is enough."""
        while True:
            self._wanted.clear()
            short = self._room.short(self._clock())
            if not short and not any(self._bans.unreported()):
                return
            try:
                await self._report_bans()
                # A single ask each: a priority that is never satisfied must not keep others from asking.
                for queue in short:
                    await self._lease(queue)
            except BookAwayError:
                await asyncio.sleep(AWAY_SECONDS)
            else:
                await self._pause_until(min((queue.ask_at for queue in short), default=0.0))

    async def _pause_until(self, moment: float) -> None:
        seconds = moment - self._clock()
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), seconds)

    async def _lease(self, queue: Queue) -> None:
        """Ask for what a queue is short of, unless it is too early or the queue has enough by now."""
        asked_at = self._clock()
        if queue.ask_at > asked_at or not self._room.is_short(queue, asked_at):
            return
        wanted = self._room.to_lease(queue, asked_at)
        grant = await self._book.lease(
            Ask(queue.priority, queue.scope, wanted, returned=self._room.take_returned())
        )
        now = self._clock()
        queue.add_places(grant, asked_at=asked_at, now=now)
        if grant.calls < wanted:
            queue.ask_at = now + max(grant.again_in_seconds, POLL_SECONDS * _uniform(0.25, 1.0))
        for scope, seconds in grant.bans.items():
            self._close(scope, now + seconds)
        if grant.day_is_spent and not queue.places:
            self._end_day(queue.priority, now, grant.day_ends_in_seconds)
        self._let_through()

    def _end_day(self, priority: Priority, now: float, seconds: float) -> None:
        self._spent_days[priority] = _SpentDay(now + QUOTA_CHECK_SECONDS, now + seconds)
        for caller in self._room.turn_away(lambda queue, _: queue.priority is priority):
            _answer(caller, permit=False)

    def _require_day(self, api: str, priority: Priority, now: float) -> None:
        spent = self._spent_days.get(priority)
        if spent is not None and now < min(spent.check_at, spent.ends_at):
            raise CallLimitedError(
                "not called: the day's calls are used up",
                scope=Scope.APP,
                wait_seconds=spent.ends_at - now,
                api=api,
            )

    async def _report_bans(self) -> None:
        for scope, until in self._bans.unreported():
            if (seconds := until - self._clock()) > 0:
                await self._book.ban(scope, seconds)
            self._bans.reported(scope, until)

    def _refusal(self, api: str, summary: str) -> CallLimitedError:
        now = self._clock()
        wait_seconds = self._bans.closed_seconds(api, now) or self._config.max_wait_seconds
        scope = self._bans.scope_of(api, now)
        return CallLimitedError(f"not called: {summary}", scope=scope, wait_seconds=wait_seconds, api=api)


@dataclass(frozen=True, slots=True)
class _SpentDay:
    """A day whose calls are used up for a priority."""

    check_at: float
    ends_at: float


class _Admission:
    """A passage of the gate."""

    __slots__ = ("_api", "_gate", "_priority")

    def __init__(self, gate: BudgetGate, api: str, priority: Priority) -> None:
        self._gate = gate
        self._api = api
        self._priority = priority

    async def __aenter__(self) -> None:
        await self._gate.enter(self._api, self._priority)

    async def __aexit__(self, *_: object) -> None:
        self._gate.leave()


def _answer(caller: Caller, *, permit: bool) -> None:
    # A cancelled caller is done already and has not left its queue yet.
    if not caller.done():
        caller.set_result(permit)
