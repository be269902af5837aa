"""Parts come as they are read; offsets are done with in their order, and only with everything before them."""

from __future__ import annotations

import asyncio

import pytest

from consumer.enrich.in_flight import HELD_BATCHES, Lane, Reading
from consumer.enrich.read.batches import Batch

MAX_RECORDS = 10
BOUND_SECONDS = 5.0


def begin(lane: Lane, next_offset: int, records: int = 1) -> Reading:
    reading = Reading(next_offset, records, 100, asyncio.get_running_loop().create_future())
    lane.begin(reading)
    return reading


def finish(lane: Lane, reading: Reading) -> int:
    """Read, store and publish all of it; how many bytes that lets go."""
    lane.add(reading, Batch())
    lane.end(reading)
    return publish(lane)


def publish(lane: Lane) -> int:
    """Store and publish what is there to be."""
    parts = list(lane.pop_parts(1000))
    for part in parts:
        lane.stored(part.reading)
    return sum(lane.published(part.reading) for part in parts)


async def test_an_offset_is_done_with_when_everything_before_it_is() -> None:
    lane = Lane(MAX_RECORDS)
    slow, second, third = (begin(lane, offset) for offset in (1, 2, 3))
    for reading in (third, second):
        finish(lane, reading)
        assert lane.pop_done() is None
    finish(lane, slow)
    assert lane.pop_done() == 3
    assert lane.pop_done() is None, "said once"


async def test_a_reading_is_done_with_when_its_last_part_is_published() -> None:
    lane = Lane(MAX_RECORDS)
    reading = begin(lane, 5)
    lane.add(reading, Batch())
    assert publish(lane) == 0, "there may be more of it"
    assert not reading.stored.done()
    lane.add(reading, Batch())
    lane.end(reading)
    assert not reading.stored.done()
    assert publish(lane) == 100
    assert reading.stored.done()
    assert lane.pop_done() == 5


async def test_what_ends_after_all_of_it_is_published_still_gets_its_offset_committed() -> None:
    lane = Lane(MAX_RECORDS)
    reading = begin(lane, 5)
    lane.add(reading, Batch())
    publish(lane)
    assert lane.pop_done() is None
    lane.end(reading)
    assert publish(lane) == 100, "an empty part, so that a transaction comes"
    assert lane.pop_done() == 5


async def test_records_that_are_not_stored_are_bounded() -> None:
    lane = Lane(MAX_RECORDS)
    assert await lane.room() == MAX_RECORDS
    first, second = begin(lane, 1, MAX_RECORDS), begin(lane, 2, MAX_RECORDS - 3)
    assert await lane.room() == 3
    begin(lane, 3, 3)
    waiting = asyncio.create_task(lane.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    finish(lane, second)
    async with asyncio.timeout(BOUND_SECONDS):
        assert await waiting == MAX_RECORDS - 3
    assert not first.stored.done()


async def test_what_overtakes_a_slow_reading_is_bounded() -> None:
    lane = Lane(MAX_RECORDS)
    slow = begin(lane, 1)
    for number in range(1, HELD_BATCHES):
        finish(lane, begin(lane, 1 + number))
    waiting = asyncio.create_task(lane.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    finish(lane, slow)
    lane.pop_done()
    async with asyncio.timeout(BOUND_SECONDS):
        assert await waiting == MAX_RECORDS


@pytest.mark.parametrize("at_most", [1, 2])
async def test_parts_are_taken_in_the_order_in_which_they_came(at_most: int) -> None:
    lane = Lane(MAX_RECORDS)
    early, late = begin(lane, 1), begin(lane, 2)
    lane.add(late, Batch())
    lane.add(early, Batch())
    assert [part.reading for part in lane.pop_parts(at_most)] == [late, early][:at_most]
