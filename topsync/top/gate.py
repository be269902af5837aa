"""The gate that every call passes: how many at once, how many a second, and none during a ban.

`Gate` is the seam; `LocalGate` keeps the rules for one process. A permit is asked for before each attempt,
retries included, so that no code path can call past the budget.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from topsync.top.errors import CallLimitedError, Scope

_uniform = random.SystemRandom().uniform


class Lane(IntEnum):
    """Who goes first when calls are scarce: the smallest."""

    LIVE = 0
    GAP = 1
    OPERATOR = 2
    BOOTSTRAP = 3
    SWEEP = 4

    @property
    def label(self) -> str:
        """The name in metrics and logs."""
        return self.name.lower()


class Gate(Protocol):
    """Permission to call."""

    def admit(self, api: str, lane: Lane) -> AbstractAsyncContextManager[None]:
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
    """Bounds of one process's calls. The platform's limits are not published (reference/top-api.md 6.2).

    Attributes:
        calls_per_second: in any t seconds at most `burst` + t × `calls_per_second` calls are begun.
        burst: how many calls may be begun at once after a pause.
        max_in_flight: attempts under way at the same time.
        max_wait_seconds: longest wait for a permit; above it the work goes back to its queue.
        max_waiting: callers that wait at the same time.
        ban_jitter_seconds: a ban is lengthened by up to this much: processes do not come back together.
    """

    calls_per_second: float = 20.0
    burst: int = 1
    max_in_flight: int = 32
    max_wait_seconds: float = 90.0
    max_waiting: int = 10_000
    ban_jitter_seconds: float = 1.0


class LocalGate:
    """The gate of one process and one event loop.

    Waiting callers stand in one queue per lane; `_grant` is the only place that lets anyone through.
    """

    def __init__(self, config: GateConfig | None = None) -> None:
        self._config = config or GateConfig()
        self._interval_seconds = 1 / self._config.calls_per_second
        self._burst_seconds = (self._config.burst - 1) * self._interval_seconds
        self._next_call_at = float("-inf")
        self._in_flight = 0
        self._waiting = 0
        self._app_opens_at = float("-inf")
        self._api_opens_at: dict[str, float] = {}
        # Ordered dictionaries: a caller that gives up leaves from the middle. The value is its API.
        self._queues: dict[Lane, OrderedDict[asyncio.Future[bool], str]] = {
            lane: OrderedDict() for lane in sorted(Lane)
        }
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def admit(self, api: str, lane: Lane) -> AsyncIterator[None]:
        """See `Gate.admit`."""
        await self._wait_bounded(api, lane)
        try:
            yield
        finally:
            self._release()

    async def ban(self, scope: Scope, api: str, wait_seconds: float) -> None:
        """See `Gate.ban`."""
        until = time.monotonic() + wait_seconds + _uniform(0.0, self._config.ban_jitter_seconds)
        match scope:
            case Scope.APP:
                self._app_opens_at = max(self._app_opens_at, until)
            case Scope.API | Scope.APP_API:
                self._api_opens_at[api] = max(self._api_opens_at.get(api, until), until)
            case Scope.SELLER:
                pass

    def closed_for_seconds(self, api: str) -> float:
        """How long a ban still holds `api` back; 0 when there is none."""
        opens_at = max(self._app_opens_at, self._api_opens_at.get(api, float("-inf")))
        return max(0.0, opens_at - time.monotonic())

    async def _wait_bounded(self, api: str, lane: Lane) -> None:
        if self._waiting >= self._config.max_waiting:
            raise self._refusal(api, f"{self._waiting} callers are waiting already")
        deadline = time.monotonic() + self._config.max_wait_seconds
        self._waiting += 1
        try:
            async with asyncio.timeout(self._config.max_wait_seconds) as bound:
                await self._wait(api, lane, deadline)
        except TimeoutError:
            if not bound.expired():
                raise
            raise self._refusal(api, f"no permit within {self._config.max_wait_seconds:.0f} s") from None
        finally:
            self._waiting -= 1

    async def _wait(self, api: str, lane: Lane, deadline: float) -> None:
        while True:
            while closed := self.closed_for_seconds(api):
                if time.monotonic() + closed > deadline:
                    raise self._refusal(api, "banned")
                await asyncio.sleep(closed)
            if not await self._permit(api, lane):
                continue
            if not self.closed_for_seconds(api):
                return
            # A ban came between the grant and this task's turn: the slot goes back, the call is not made.
            self._release()

    async def _permit(self, api: str, lane: Lane) -> bool:
        """Queue for a slot and a place in the rate; False when a ban came first."""
        granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queues[lane][granted] = api
        self._grant()
        try:
            return await granted
        except asyncio.CancelledError:
            self._queues[lane].pop(granted, None)
            if granted.done() and not granted.cancelled() and granted.result():
                self._release()
            raise

    def _grant(self) -> None:
        """Let through whom slots and rate allow, the first lane first; arm a timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for queue in self._queues.values():
            while queue:
                granted, api = next(iter(queue.items()))
                if granted.done() or self.closed_for_seconds(api):
                    del queue[granted]
                    self._answer(granted, permit=False)
                elif self._in_flight >= self._config.max_in_flight:
                    return
                elif (early := self._next_call_at - self._burst_seconds - time.monotonic()) > 0:
                    self._timer = asyncio.get_running_loop().call_later(early, self._grant)
                    return
                else:
                    del queue[granted]
                    self._next_call_at = max(self._next_call_at, time.monotonic()) + self._interval_seconds
                    self._in_flight += 1
                    self._answer(granted, permit=True)

    @staticmethod
    def _answer(granted: asyncio.Future[bool], *, permit: bool) -> None:
        # A cancelled caller is done already and has not left its queue yet.
        if not granted.done():
            granted.set_result(permit)

    def _release(self) -> None:
        self._in_flight -= 1
        self._grant()

    def _refusal(self, api: str, summary: str) -> CallLimitedError:
        closed = self.closed_for_seconds(api)
        only_this_api = closed > 0 and self._api_opens_at.get(api, 0.0) > self._app_opens_at
        scope = Scope.API if only_this_api else Scope.APP
        wait_seconds = closed or self._config.max_wait_seconds
        return CallLimitedError(f"not called: {summary}", scope=scope, wait_seconds=wait_seconds, api=api)
