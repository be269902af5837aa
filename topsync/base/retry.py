"""Retries for the whole product, over tenacity; no other module imports it.

The rule is a value that can be tested without waiting: a pure function maps an exception (and the number
of the attempt that raised it) to `Retry` or `GIVE_UP`, and a `Policy` says how long to wait and when to
stop. Doing it is `run`.

    await retry.run(connect, decide=on_oserror, policy=retry.Policy(max_attempts=8))
"""

from __future__ import annotations

import asyncio
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
    """Anything from nothing to the whole wait: for many clients of one server that came back."""
    HALF = (0.5, 1.5)
    """The wait ± 50 %: for a service that asks for time (docs/platform/gateway.md 2.1)."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again: after exactly `wait_seconds`, or after the policy's own wait when that is None."""

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
    """What `on_retry` is told before a wait: which attempt failed, with what, and how long the wait is."""

    number: int
    error: Exception
    wait_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Exponential waits with jitter, bounded in number or in time (or both).

    Attributes:
        max_attempts: calls in all, the first included; None for no bound of this kind.
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
    began = time.monotonic()
    try:
        # Most calls answer at once, and tenacity's bookkeeping costs a third of a call to the gateway.
        return await call()
    except Exception as error:  # noqa: BLE001 -- `decide` says what becomes of it
        first = error
    return await _go_on(call, first, began, decide, policy, on_retry)


async def _go_on(
    call: Callable[[], Awaitable[T]],
    first: Exception,
    began: float,
    decide: Decide,
    policy: Policy,
    on_retry: Callable[[Attempt], None] | None,
) -> T:
    """Let tenacity see the first attempt's failure, and make the others."""
    seen_first = False
    wanted: Decision = GIVE_UP

    async def attempt() -> T:
        nonlocal seen_first
        if not seen_first:
            seen_first = True
            raise first
        return await call()

    def worth_retrying(state: tenacity.RetryCallState) -> bool:
        nonlocal wanted
        error = _error_of(state)
        # Cancellation and exit are not failures of the call: `decide` never sees them.
        wanted = decide(error, state.attempt_number) if isinstance(error, Exception) else GIVE_UP
        return isinstance(wanted, Retry)

    def wait(state: tenacity.RetryCallState) -> float:
        named = wanted.wait_seconds if isinstance(wanted, Retry) else None
        return policy.wait_seconds(state.attempt_number) if named is None else named

    def before_sleep(state: tenacity.RetryCallState) -> None:
        error = _error_of(state)
        if on_retry is not None and isinstance(error, Exception):
            on_retry(Attempt(state.attempt_number, error, state.upcoming_sleep))

    def stop(state: tenacity.RetryCallState) -> bool:
        elapsed_seconds = time.monotonic() - began + state.upcoming_sleep
        return policy.is_used_up(state.attempt_number, elapsed_seconds)

    retrying = tenacity.AsyncRetrying(
        retry=worth_retrying,
        wait=wait,
        stop=stop,
        before_sleep=before_sleep,
        sleep=asyncio.sleep,
        reraise=True,
    )
    result: T = await retrying(attempt)
    return result


def _error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None
