"""The records in flight in a process are bounded in bytes, and nobody starves."""

from __future__ import annotations

import asyncio

from consumer.enrich.bytes_in_flight import BytesInFlight


async def test_a_reader_that_finds_no_room_waits_and_gets_it_in_the_order_of_requests() -> None:
    room = BytesInFlight(100)
    let_in: list[int] = []

    async def take(size: int) -> None:
        await room.take(size)
        let_in.append(size)

    async with asyncio.TaskGroup() as tasks:
        for size in (60, 50, 10):
            tasks.create_task(take(size))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        # The last request would fit, but small requests must not keep a large request waiting for ever.
        assert let_in == [60]
        room.give_back(60)
    assert let_in == [60, 50, 10]
    assert room.taken_bytes == 60


async def test_records_larger_than_the_bound_go_alone() -> None:
    room = BytesInFlight(100)
    await room.take(10)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(room.take(1000))
        await asyncio.sleep(0)
        assert room.taken_bytes == 10
        room.give_back(10)
    assert room.taken_bytes == 1000
