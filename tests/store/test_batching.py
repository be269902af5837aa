"""Batched calls: which caller waits for which call, and whom a failure or a cancellation concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from topsync.store.batching import Batcher


class Desk:
    """Answers each number with its double, on demand; refuses odd numbers above 100."""

    def __init__(self, at_most: int = 10) -> None:
        self.calls: list[Sequence[int]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None
        self.ask = Batcher(self._answer, weigh=lambda number: 1 + number // 1000, at_most=at_most)

    async def _answer(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.calls.append(numbers)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [ValueError(str(number)) if number > 100 and number % 2 else 2 * number for number in numbers]

    async def begin(self, *numbers: int) -> list[asyncio.Task[int]]:
        """Ask for each in turn; returns when all wait."""
        tasks = [asyncio.create_task(self.ask(number)) for number in numbers]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return tasks


async def test_a_single_caller_gets_its_call_at_once() -> None:
    desk = Desk()
    desk.open.set()
    assert [await desk.ask(number) for number in (1, 2)] == [2, 4]
    assert desk.calls == [[1], [2]]


async def test_callers_during_a_call_share_the_next_call() -> None:
    desk = Desk()
    asked = await desk.begin(1) + await desk.begin(2, 3, 4)
    assert desk.calls == [[1]]
    desk.open.set()
    assert await asyncio.gather(*asked) == [2, 4, 6, 8]
    assert desk.calls == [[1], [2, 3, 4]]


async def test_a_call_has_a_bounded_weight_and_a_heavier_item_goes_alone() -> None:
    desk = Desk(at_most=3)
    asked = await desk.begin(1) + await desk.begin(2, 3, 4, 5, 9000, 6)
    desk.open.set()
    await asyncio.gather(*asked)
    assert desk.calls == [[1], [2, 3, 4], [5], [9000], [6]]


async def test_an_exception_among_the_outcomes_concerns_only_its_item() -> None:
    desk = Desk()
    asked = await desk.begin(1) + await desk.begin(2, 101, 4)
    desk.open.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [outcomes[0], outcomes[1], outcomes[3]] == [2, 4, 8]
    assert isinstance(outcomes[2], ValueError)


async def test_a_call_that_fails_fails_for_all_its_callers_and_the_next_call_is_made() -> None:
    desk = Desk()
    failing = await desk.begin(1)
    later = await desk.begin(2, 3)
    desk.error = OSError("away")
    desk.open.set()
    outcomes = await asyncio.gather(*failing, *later, return_exceptions=True)
    assert all(isinstance(outcome, OSError) for outcome in outcomes)
    desk.error = None
    assert await desk.ask(4) == 8


async def test_a_cancelled_caller_is_left_out_and_the_others_are_answered() -> None:
    desk = Desk()
    (first,), (second, third) = await desk.begin(1), await desk.begin(2, 3)
    first.cancel()
    second.cancel()
    await asyncio.wait({first, second})
    assert not third.done()
    desk.open.set()
    assert await third == 6
    assert desk.calls == [[1], [3]], "nothing was done for the second"


async def test_when_the_call_itself_is_cancelled_nobody_waits_for_ever() -> None:
    desk = Desk()
    asked = await desk.begin(1) + await desk.begin(2)
    calling = next(task for task in asyncio.all_tasks() if task.get_coro().__name__ == "_call_all")  # type: ignore[union-attr]
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.gather(*asked)
    await asyncio.wait(asked)
    desk.open.set()
    assert await desk.ask(3) == 6
