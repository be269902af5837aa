"""Which caller goes when, and which places are leased for whom, at moments that the tests choose."""

from __future__ import annotations

import asyncio

from topsync.budget.leases import LEASE_SECONDS, LeaseGrant
from topsync.budget.waiting import OLDEST_EVERY, SLICE_SECONDS, Caller, Queue, WaitingRoom
from topsync.model.call_limits import APP
from topsync.model.priority import Priority

API = "an.api"


def wait(queue: Queue, since: float = 0.0) -> Caller:
    caller: Caller = asyncio.get_running_loop().create_future()
    queue.waiting[caller] = (API, since)
    return caller


def lease(queue: Queue, calls: int, *, at: float = 0.0, spacing_seconds: float = 0.0) -> None:
    queue.add_places(LeaseGrant(at, calls, spacing_seconds=spacing_seconds), asked_at=at, now=at)


async def test_the_more_urgent_caller_goes_first_and_among_equals_the_caller_that_came_first() -> None:
    room = WaitingRoom(max_in_flight=10)
    sweep, live = room.queue(Priority.SWEEP, APP), room.queue(Priority.LIVE, APP)
    swept, first, second = wait(sweep), wait(live), wait(live)
    lease(sweep, 1)
    lease(live, 2)
    assert list(room.admit(0.0)) == [first, second, swept]


async def test_no_caller_goes_before_its_place_is_due_or_after_it_has_lapsed() -> None:
    room = WaitingRoom(max_in_flight=10)
    queue = room.queue(Priority.LIVE, APP)
    callers = [wait(queue) for _ in range(3)]
    lease(queue, 3, spacing_seconds=0.1)
    assert list(room.admit(0.05)) == callers[:1]
    assert room.next_place_at() == 0.1
    assert list(room.admit(LEASE_SECONDS)) == []
    assert room.take_returned() == 2, "places that lapsed go back to the book"
    assert room.take_returned() == 0, "once"


async def test_every_nth_call_goes_to_the_caller_that_waits_longest() -> None:
    room = WaitingRoom(max_in_flight=1)
    sweep, live = room.queue(Priority.SWEEP, APP), room.queue(Priority.LIVE, APP)
    swept = wait(sweep, since=0.0)
    urgent = [wait(live, since=1.0) for _ in range(OLDEST_EVERY)]
    lease(sweep, 1)
    lease(live, OLDEST_EVERY)
    order: list[Caller] = []
    for _ in range(OLDEST_EVERY):
        order += room.admit(0.0)
        room.leave()
    assert order == [*urgent[: OLDEST_EVERY - 1], swept]


async def test_a_cancelled_caller_takes_no_slot_and_its_place_goes_back() -> None:
    room = WaitingRoom(max_in_flight=1)
    queue = room.queue(Priority.LIVE, APP)
    gone, next_one = wait(queue), wait(queue)
    gone.cancel()
    lease(queue, 2)
    assert list(room.admit(0.0)) == [next_one]
    assert room.take_returned() == 1


async def test_no_more_calls_than_slots_are_in_flight_and_a_call_that_ends_frees_its_slot() -> None:
    room = WaitingRoom(max_in_flight=1)
    queue = room.queue(Priority.LIVE, APP)
    lease(queue, 2)
    assert room.admit_at_once(queue, 0.0)
    assert not room.admit_at_once(queue, 0.0)
    assert room.next_place_at() is None, "there is no slot to wait for a place with"
    room.leave()
    assert room.admit_at_once(queue, 0.0)


async def test_as_many_places_are_leased_as_calls_can_go_and_as_lately_went() -> None:
    room = WaitingRoom(max_in_flight=2)
    queue = room.queue(Priority.LIVE, APP)
    assert room.short(0.0) == [], "nobody waits, and nobody called"
    callers = [wait(queue) for _ in range(5)]
    assert room.to_lease(queue, 0.0) == 2, "no more than can be in flight"
    lease(queue, 2)
    assert list(room.admit(0.0)) == callers[:2]
    assert room.to_lease(queue, 0.0) == 1 + 2, "one place for a free slot, and as many as calls went just now"
    assert room.to_lease(queue, 3 * SLICE_SECONDS) == 1, "nobody has called for a while"


async def test_an_error_reaches_the_callers_that_it_concerns_and_nobody_else() -> None:
    room = WaitingRoom(max_in_flight=1)
    live, sweep = room.queue(Priority.LIVE, APP), room.queue(Priority.SWEEP, APP)
    stays, goes = wait(live), wait(sweep)
    assert room.turn_away(lambda queue, _: queue.priority is Priority.SWEEP) == [goes]
    assert list(live.waiting) == [stays]
    assert not sweep.waiting
