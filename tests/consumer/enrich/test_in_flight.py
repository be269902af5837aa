"""Parts come as they are read; offsets become done in order, and only after everything before them."""

from __future__ import annotations

import asyncio
from math import inf

from consumer.enrich.in_flight import AHEAD_BATCHES, HELD_BATCHES, InFlight, Reading
from consumer.enrich.read.batch import Batch

MAX_RECORDS = 10
BOUND_SECONDS = 5.0


def begin(in_flight: InFlight, next_offset: int, records: int = 1) -> Reading:
    reading = Reading(next_offset, records, 100, asyncio.get_running_loop().create_future())
    in_flight.begin(reading)
    return reading


def finish(in_flight: InFlight, reading: Reading) -> int:
    """Read, store and publish all of it; returns how many bytes that frees."""
    in_flight.add(reading, Batch())
    in_flight.end(reading)
    return publish(in_flight)


def publish(in_flight: InFlight) -> int:
    """Store and publish all parts that are there."""
    parts = in_flight.pop_all()
    for part in parts:
        in_flight.stored(part.reading)
    return sum(in_flight.published(part.reading) for part in parts)


async def test_an_offset_is_done_when_everything_before_it_is_done() -> None:
    in_flight = InFlight(MAX_RECORDS)
    slow, second, third = (begin(in_flight, offset) for offset in (1, 2, 3))
    for reading in (third, second):
        finish(in_flight, reading)
        assert in_flight.pop_done() is None
    finish(in_flight, slow)
    assert in_flight.pop_done() == 3
    assert in_flight.pop_done() is None, "said once"


async def test_a_reading_is_done_when_its_last_part_is_published() -> None:
    in_flight = InFlight(MAX_RECORDS)
    reading = begin(in_flight, 5)
    in_flight.add(reading, Batch())
    assert publish(in_flight) == 0, "there may be more of it"
    assert not reading.stored.done()
    in_flight.add(reading, Batch())
    in_flight.end(reading)
    assert not reading.stored.done()
    assert publish(in_flight) == 100
    assert reading.stored.done()
    assert in_flight.pop_done() == 5


async def test_a_reading_that_ends_after_its_parts_are_published_still_commits_its_offset() -> None:
    in_flight = InFlight(MAX_RECORDS)
    reading = begin(in_flight, 5)
    in_flight.add(reading, Batch())
    publish(in_flight)
    assert in_flight.pop_done() is None
    in_flight.end(reading)
    assert publish(in_flight) == 100, "an empty part, which leads to a transaction"
    assert in_flight.pop_done() == 5


async def test_records_that_are_not_stored_are_bounded() -> None:
    in_flight = InFlight(MAX_RECORDS)
    assert await in_flight.room() == MAX_RECORDS
    first, second = begin(in_flight, 1, MAX_RECORDS), begin(in_flight, 2, MAX_RECORDS - 3)
    assert await in_flight.room() == 3
    begin(in_flight, 3, 3)
    waiting = asyncio.create_task(in_flight.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    finish(in_flight, second)
    async with asyncio.timeout(BOUND_SECONDS):
        assert await waiting == MAX_RECORDS - 3
    assert not first.stored.done()


async def test_the_number_of_readings_that_overtake_a_slow_reading_is_bounded() -> None:
    in_flight = InFlight(MAX_RECORDS)
    slow = begin(in_flight, 1)
    for number in range(1, HELD_BATCHES):
        finish(in_flight, begin(in_flight, 1 + number))
    waiting = asyncio.create_task(in_flight.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    finish(in_flight, slow)
    in_flight.pop_done()
    async with asyncio.timeout(BOUND_SECONDS):
        assert await waiting == MAX_RECORDS


async def test_a_batch_is_what_came_first_and_no_more_than_a_full_batch() -> None:
    in_flight = InFlight(MAX_RECORDS)
    early, late, last = begin(in_flight, 1, 4), begin(in_flight, 2, 6), begin(in_flight, 3, 1)
    waiting_since, is_full = [in_flight.waiting_since], [in_flight.is_full]
    for reading in (late, early, last):
        in_flight.add(reading, Batch())
        waiting_since.append(in_flight.waiting_since)
        is_full.append(in_flight.is_full)
    assert waiting_since[0] == inf
    assert waiting_since[1:] == [waiting_since[1]] * 3
    assert is_full == [False, False, True, True]
    assert [part.reading for part in in_flight.pop_batch()] == [late, early]
    assert waiting_since[1] < in_flight.waiting_since < inf, "the rest waits from now on"
    assert [part.reading for part in in_flight.pop_batch()] == [last]
    assert in_flight.pop_batch() == []


async def test_so_many_readings_that_no_more_may_begin_are_full_however_small_they_are() -> None:
    in_flight = InFlight(1000)
    is_full = []
    for number in range(AHEAD_BATCHES):
        is_full.append(in_flight.is_full)
        in_flight.add(begin(in_flight, number), Batch())
    assert not any(is_full)
    assert in_flight.is_full
