"""Retries for the whole product, over tenacity; no other module imports it.

The rule can be tested without waiting: a pure function maps an exception (and the number of the attempt that
raised it) to `Retry` or `GIVE_UP`, and a `Policy` says how long to wait and when to stop. `run` carries it
out.

    await retry.run(connect, decide=on_oserror, policy=retry.Policy(max_attempts=8))
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

import tenacity

T = TypeVar("T")

_uniform = random.SystemRandom().uniform


class Jitter(Enum):
    """By how much a computed wait is spread, so that many callers do not come back together."""

    FULL = (0.0, 1.0)
    """Anything from nothing to the whole wait: for many clients of a server that came back."""
    HALF = (0.5, 1.5)
    """The wait ± 50 %: for a service that asks for time (docs/platform/gateway.md 2.1)."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again: after exactly `wait_seconds`, or after the policy's wait when that is None."""

    wait_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not try again: the exception goes to the caller as it is."""


GIVE_UP: Final = GiveUp()

Decision = Retry | GiveUp
Decide = Callable[[Exception, int], Decision]
"""From an exception and the number of the attempt that raised it, counted from 1. Pure."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What `on_retry` gets before a wait: the failed attempt, its error, and how long the wait is."""

    number: int
    error: Exception
    wait_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Exponential waits with jitter, bounded in number or in time (or both).

    Attributes:
        max_attempts: calls in all, the first included; None for no such bound.
        max_elapsed_seconds: no wait is begun that would end later than this after the first call began.
        first_wait_seconds: the wait after the first failure, before jitter; it doubles each time.
        max_wait_seconds: the longest wait before jitter.
        jitter: how waits are spread. Waits that a decision names are kept exactly.
    """

    max_attempts: int | None = 5
    max_elapsed_seconds: float | None = None
    first_wait_seconds: float = 1.0
    max_wait_seconds: float = 16.0
    jitter: Jitter = Jitter.HALF

    def __post_init__(self) -> None:
        """Refuse a policy that would never end."""
        if self.max_attempts is None and self.max_elapsed_seconds is None:
            raise ValueError("a retry policy needs a bound: max_attempts or max_elapsed_seconds")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ValueError("max_attempts counts the first call too: it is at least 1")

    def wait_seconds(self, attempt: int, uniform: Callable[[float, float], float] = _uniform) -> float:
        """The wait after failed attempt number `attempt` (from 1)."""
        # The exponent is capped: 2.0 ** 1024 overflows, and any cap above it is reached long before.
        wait: float = min(self.max_wait_seconds, self.first_wait_seconds * 2.0 ** min(attempt - 1, 64))
        return wait * uniform(*self.jitter.value)

    def is_used_up(self, attempts: int, elapsed_seconds: float) -> bool:
        """Whether no further call is made after `attempts`, when it would begin after `elapsed_seconds`."""
        by_number = self.max_attempts is not None and attempts >= self.max_attempts
        by_time = self.max_elapsed_seconds is not None and elapsed_seconds >= self.max_elapsed_seconds
        return by_number or by_time


async def run(
    call: Callable[[], Awaitable[T]],
    *,
    decide: Decide,
    policy: Policy,
    on_retry: Callable[[Attempt], None] | None = None,
) -> T:
    """Await `call()` until it answers, `decide` gives up or the policy's bound is reached.

    `call` must be safe to repeat. `on_retry` runs before each wait; it is for counting and must not block.

    Raises:
        Exception: the last exception of `call`, unchanged.
        asyncio.CancelledError: passed through at once, from `call` as well as from a wait.
    """
    rule = _Rule(decide, policy, on_retry, began=time.monotonic())
    try:
        # Most calls answer at once, and tenacity's bookkeeping costs a third of a call to the gateway.
        return await call()
    except Exception as error:
        wait_seconds = rule.wait_after(error, 1)
        if wait_seconds is None:
            raise
    await asyncio.sleep(wait_seconds)

    async def attempt() -> T:
        return await call()

    result: T = await rule.further_attempts()(attempt)
    return result


@dataclass(frozen=True, slots=True)
class _Rule:
    """A policy and a decision, with the moment of the monotonic clock at which the first call began."""

    decide: Decide
    policy: Policy
    on_retry: Callable[[Attempt], None] | None
    began: float

    def wait_after(self, error: Exception, attempt: int) -> float | None:
        """How long to wait before the next attempt; None when there is no next attempt."""
        decision = self.decide(error, attempt)
        if isinstance(decision, GiveUp):
            return None
        named = decision.wait_seconds
        wait_seconds = self.policy.wait_seconds(attempt) if named is None else named
        if self.policy.is_used_up(attempt, time.monotonic() - self.began + wait_seconds):
            return None
        if self.on_retry is not None:
            self.on_retry(Attempt(attempt, error, wait_seconds))
        return wait_seconds

    def further_attempts(self) -> tenacity.AsyncRetrying:
        """The attempts after the first. Cancellation is no failure of the call, and ends them."""
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Exception),
            wait=self._wait,
            stop=lambda state: state.upcoming_sleep == _NO_MORE,
            sleep=asyncio.sleep,
            reraise=True,
        )

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        assert isinstance(error, Exception), "tenacity asks how long to wait only after such a failure"
        wait_seconds = self.wait_after(error, state.attempt_number + 1)
        return _NO_MORE if wait_seconds is None else wait_seconds


_NO_MORE: Final = math.inf
"""The wait before an attempt that will not be made: tenacity first asks how long to wait, then whether to
stop."""
