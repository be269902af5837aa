"""Batches are read at the same time, but never two batches with the same order."""

from __future__ import annotations

import asyncio

from consumer.enrich.turns import Turns


async def until_blocked() -> None:
    """Run every task as far as it can go."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_batch_waits_for_every_earlier_batch_that_shares_an_order_with_it_and_for_no_other() -> None:
    turns = Turns()
    loop = asyncio.get_running_loop()
    first, second, third, other = (loop.create_future() for _ in range(4))
    took: list[str] = []

    async def take(name: str, tids: set[int], stored: asyncio.Future[None]) -> None:
        await turns.take(tids, stored)
        took.append(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take("first", {1, 2}, first))
        tasks.create_task(take("second", {2, 3}, second))
        tasks.create_task(take("other", {4}, other))
        tasks.create_task(take("third", {1, 3}, third))
        await until_blocked()
        assert took == ["first", "other"]
        first.set_result(None)
        await until_blocked()
        assert took == ["first", "other", "second"]
        second.set_result(None)
    assert took == ["first", "other", "second", "third"]


async def test_an_order_that_is_stored_is_forgotten() -> None:
    """An order without a batch under way takes no memory."""
    turns = Turns()
    stored = asyncio.get_running_loop().create_future()
    await turns.take({1, 2}, stored)
    stored.set_result(None)
    await until_blocked()
    assert turns._last == {}
