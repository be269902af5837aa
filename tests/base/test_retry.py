"""Retries are bounded and can be cancelled; a value says how."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import pace
from topsync.base import retry

FAST = retry.Policy(max_attempts=4, first_wait_seconds=0.001, max_wait_seconds=0.002)


class Flaky:
    """Fails `failures` times with `error`, then answers; counts the calls."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures = failures
        self.error = error or OSError("away")
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "here"


def always(error: Exception, attempt: int) -> retry.Decision:
    return retry.Retry()


def never(error: Exception, attempt: int) -> retry.Decision:
    return retry.GIVE_UP


async def test_a_call_that_recovers_within_the_bound_answers() -> None:
    flaky = Flaky(3)
    assert await retry.run(flaky, decide=always, policy=FAST) == "here"
    assert flaky.calls == 4


async def test_the_last_exception_itself_is_raised_when_attempts_run_out() -> None:
    flaky = Flaky(99)
    with pytest.raises(OSError, match="away") as caught:
        await retry.run(flaky, decide=always, policy=FAST)
    assert caught.value is flaky.error
    assert flaky.calls == 4


async def test_a_call_that_the_rule_gives_up_is_made_once() -> None:
    flaky = Flaky(99, ValueError("defect"))
    with pytest.raises(ValueError, match="defect"):
        await retry.run(flaky, decide=never, policy=FAST)
    assert flaky.calls == 1


async def test_the_rule_gets_the_number_of_the_attempt_and_the_hook_every_wait() -> None:
    asked: list[int] = []
    heard: list[retry.Attempt] = []

    def twice(error: Exception, attempt: int) -> retry.Decision:
        asked.append(attempt)
        return retry.Retry(0.0) if attempt < 3 else retry.GIVE_UP

    flaky = Flaky(99)
    with pytest.raises(OSError, match="away"):
        await retry.run(flaky, decide=twice, policy=FAST, on_retry=heard.append)
    assert asked == [1, 2, 3]
    assert heard == [retry.Attempt(1, flaky.error, 0.0), retry.Attempt(2, flaky.error, 0.0)]


async def test_a_wait_that_the_rule_names_is_kept() -> None:
    begun = time.monotonic()
    await retry.run(Flaky(1), decide=lambda error, attempt: retry.Retry(0.15), policy=FAST)
    assert time.monotonic() - begun >= 0.15


async def test_no_wait_is_begun_that_would_end_after_the_elapsed_bound() -> None:
    flaky = Flaky(99)
    policy = retry.Policy(max_attempts=None, max_elapsed_seconds=600)
    begun = time.monotonic()
    with pytest.raises(OSError, match="away"):
        await retry.run(
            flaky, decide=lambda error, attempt: retry.Retry(0.01 if attempt < 3 else 601), policy=policy
        )
    assert time.monotonic() - begun < pace.AT_ONCE_SECONDS
    assert flaky.calls == 3


async def test_the_first_call_counts_towards_the_elapsed_bound() -> None:
    flaky = Flaky(99)

    async def slow() -> str:
        await asyncio.sleep(0.1)
        return await flaky()

    policy = retry.Policy(max_attempts=None, max_elapsed_seconds=600)
    with pytest.raises(OSError, match="away"):
        await retry.run(slow, decide=lambda error, attempt: retry.Retry(599.95), policy=policy)
    assert flaky.calls == 1


async def test_cancellation_of_the_call_is_raised_and_the_rule_never_sees_it() -> None:
    entered = asyncio.Event()
    shown: list[Exception] = []

    async def hang() -> None:
        entered.set()
        await asyncio.Event().wait()

    def note(error: Exception, attempt: int) -> retry.Decision:
        shown.append(error)
        return retry.Retry(0.0)

    task = asyncio.create_task(retry.run(hang, decide=note, policy=FAST))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shown == []


async def test_cancellation_ends_a_wait() -> None:
    waiting = asyncio.Event()
    task = asyncio.create_task(
        retry.run(
            Flaky(99),
            decide=lambda error, attempt: retry.Retry(60.0),
            policy=FAST,
            on_retry=lambda attempt: waiting.set(),
        )
    )
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, pace.AT_ONCE_SECONDS)


async def test_a_function_that_returns_an_awaitable_is_awaited_too() -> None:
    flaky = Flaky(2)
    assert await retry.run(lambda: flaky(), decide=always, policy=FAST) == "here"


def test_a_policy_without_a_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="bound"):
        retry.Policy(max_attempts=None)
    with pytest.raises(ValueError, match="at least 1"):
        retry.Policy(max_attempts=0)


@given(attempt=st.integers(1, 10_000), jitter=st.sampled_from(retry.Jitter))
def test_waits_double_up_to_the_cap_and_stay_within_the_jitter(attempt: int, jitter: retry.Jitter) -> None:
    policy = retry.Policy(first_wait_seconds=1.0, max_wait_seconds=16.0, jitter=jitter)
    plain = min(16.0, 2.0 ** min(attempt - 1, 10))
    low, high = jitter.value
    assert policy.wait_seconds(attempt, lambda a, b: a) == plain * low
    assert policy.wait_seconds(attempt, lambda a, b: b) == plain * high
    assert plain * low <= policy.wait_seconds(attempt) <= plain * high
