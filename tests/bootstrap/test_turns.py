"""LoadingTurns: only so many at once, the smallest next, and none is lost by whoever gives up."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from bootstrap.turns import LoadingTurns


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=12), st.integers(1, 3))
def test_as_many_as_may_have_a_turn_and_the_smallest_comes_next(
    wishes: list[tuple[int, bool]], at_once: int
) -> None:
    async def play() -> None:
        turns, done = LoadingTurns(at_once), asyncio.Event()
        running, most, begun = 0, 0, list[int]()

        async def work(size: int) -> None:
            nonlocal running, most
            async with turns.turn(size):
                begun.append(size)
                running += 1
                most = max(most, running)
                await done.wait()
                await asyncio.sleep(0)
                running -= 1

        tasks = [asyncio.create_task(work(size)) for size, _ in wishes]
        await asyncio.sleep(0)
        first = len(begun)
        assert first == min(at_once, len(wishes))
        given_up = [task for task, (_, gives_up) in zip(tasks, wishes, strict=True) if gives_up]
        done.set()
        for task in given_up[first:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= at_once
        assert begun[first:] == sorted(begun[first:])
        # Every turn was given back, whoever gave up.
        again = [asyncio.create_task(work(1)) for _ in range(at_once)]
        await asyncio.gather(*again)

    asyncio.run(play())


async def test_a_turn_that_was_given_to_somebody_who_gave_up_goes_to_the_next() -> None:
    turns = LoadingTurns(1)
    order = list[str]()

    async def hold(name: str) -> None:
        async with turns.turn(1):
            order.append(name)

    async with turns.turn(1):
        first, second = asyncio.create_task(hold("first")), asyncio.create_task(hold("second"))
        await asyncio.sleep(0)
    # The turn is the first one's now, and it is cancelled before it runs.
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert order == ["second"]
