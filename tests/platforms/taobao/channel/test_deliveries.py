from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from topsync.platforms.taobao.channel.deliveries import (
    DELIVERY_OVERHEAD_BYTES,
    ConfirmOutbox,
    Delivery,
    DeliveryBuffer,
)

AT = datetime(2025, 11, 11, tzinfo=UTC)


def _delivery(sequence: int, size: int = 0) -> Delivery:
    return Delivery(None, "unreadable", sequence, bytes(size), AT)


async def test_it_is_full_at_the_bound_until_the_bytes_are_well_below_it() -> None:
    buffer = DeliveryBuffer(max_bytes=4 * DELIVERY_OVERHEAD_BYTES)
    deliveries = [_delivery(number) for number in range(4)]
    fullness = []
    for delivery in deliveries:
        buffer.put([delivery])
        fullness.append(buffer.is_full)
    assert fullness == [False, False, False, True]
    room = asyncio.ensure_future(buffer.room())
    await asyncio.sleep(0)
    assert not room.done()
    assert buffer.settle(deliveries[0])
    await asyncio.wait_for(room, 1)
    assert buffer.held_bytes == 3 * DELIVERY_OVERHEAD_BYTES


async def test_a_delivery_frees_nothing_until_it_is_settled_and_settling_twice_frees_once() -> None:
    buffer = DeliveryBuffer(max_bytes=10_000)
    buffer.put([_delivery(1, 500)])
    (delivery,) = await buffer.get(9)
    assert buffer.held_bytes == 500 + DELIVERY_OVERHEAD_BYTES
    assert [buffer.settle(delivery), buffer.settle(delivery)] == [True, False]
    assert buffer.held_bytes == 0


async def test_the_end_releases_undelivered_messages_and_wakes_all_readers() -> None:
    buffer = DeliveryBuffer(max_bytes=1)
    buffer.put([_delivery(1)])
    (handed_out,) = await buffer.get(9)
    buffer.put([_delivery(2)])
    buffer.end()
    buffer.put([_delivery(3)])
    await asyncio.wait_for(buffer.room(), 1)
    assert await buffer.get(9) == []
    assert buffer.held_bytes == DELIVERY_OVERHEAD_BYTES
    buffer.settle(handed_out)
    await asyncio.wait_for(buffer.settled(), 1)


async def test_waiting_readers_learn_of_the_end() -> None:
    buffer = DeliveryBuffer(max_bytes=1)
    readers = [asyncio.ensure_future(buffer.get(9)) for _ in range(2)]
    await asyncio.sleep(0)
    buffer.end()
    assert await asyncio.wait_for(asyncio.gather(*readers), 1) == [[], []]


async def test_messages_are_delivered_in_order_and_no_more_at_once_than_wanted() -> None:
    buffer = DeliveryBuffer(max_bytes=10_000_000)
    buffer.put([_delivery(number) for number in range(5)])
    found = [[each.message_id for each in await buffer.get(2)] for _ in range(3)]
    assert found == [[0, 1], [2, 3], [4]]


async def test_a_confirm_stays_in_the_outbox_until_it_is_written() -> None:
    outbox = ConfirmOutbox(max_pending=3)
    assert [outbox.add(number) for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert [await outbox.first(2), await outbox.first(9)] == [[1, 2], [1, 2, 3]]
    outbox.drop_first(2)
    assert await outbox.first(9) == [3]
    outbox.drop_first(1)
    await asyncio.wait_for(outbox.emptied(), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(outbox.first(9), 0.01)


async def test_an_outbox_is_crowded_before_it_is_full() -> None:
    outbox = ConfirmOutbox(max_pending=4)
    crowded = []
    for number in range(4):
        assert outbox.add(number)
        crowded.append(outbox.is_crowded)
    assert crowded == [False, False, True, True]
    room = asyncio.ensure_future(outbox.room())
    outbox.drop_first(1)
    await asyncio.sleep(0)
    assert not room.done()
    outbox.drop_first(1)
    await asyncio.wait_for(room, 1)
