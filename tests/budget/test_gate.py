"""The gate: never above the rate, never during a ban, the live priority first, every wait bounded.

Each promise holds with a book of this process alone and with a book that all processes share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.budget.gates import MakeGate
from tests.support import pace
from tests.support.eventually import eventually
from topsync.budget.book import LocalBook
from topsync.budget.errors import CallLimitedError, Scope
from topsync.budget.gate import BudgetGate
from topsync.budget.leases import LEASE_SECONDS, Ask, LeaseGrant
from topsync.model.call_limits import CallLimits
from topsync.model.priority import Priority

API = "taobao.trade.fullinfo.get"
OTHER = "taobao.trades.sold.get"


def most_within(moments: Sequence[float], seconds: float) -> int:
    """The largest number of moments in any half-open window of that length."""
    return max(sum(start <= moment < start + seconds for moment in moments) for start in moments)


async def test_100_callers_never_exceed_the_rate_in_any_window(make_gate: MakeGate) -> None:
    subject = make_gate(calls_per_second=200)
    begun: list[float] = []

    async def caller() -> None:
        async with subject.admit(API, Priority.LIVE):
            begun.append(time.monotonic())

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(caller())
    assert len(begun) == 100
    for window in (0.02, 0.05, 0.1, 0.2, 0.4):
        assert most_within(begun, window) <= 1 + (window + LEASE_SECONDS) * 200
    # The places themselves are a two-hundredth of a second apart; only the first calls may come late.
    assert max(begun) - min(begun) >= 99 / 200 - LEASE_SECONDS


async def test_calls_in_flight_are_bounded(make_gate: MakeGate) -> None:
    subject = make_gate(max_in_flight=3, calls_per_second=100_000)
    under_way, most = 0, 0

    async def caller() -> None:
        nonlocal under_way, most
        async with subject.admit(API, Priority.LIVE):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.002)
            under_way -= 1

    await asyncio.gather(*(caller() for _ in range(30)))
    assert most == 3


async def test_100_callers_make_no_call_during_a_ban_and_all_go_on_after_it(make_gate: MakeGate) -> None:
    subject = make_gate(calls_per_second=2000, max_in_flight=10)
    begun: list[float] = []
    ban: list[float] = []

    async def caller(number: int) -> None:
        async with subject.admit(API, Priority(number % 5)):
            begun.append(time.monotonic())
            if len(begun) == 20:
                await subject.ban(Scope.API, API, 0.3)
                ban.append(time.monotonic())
            await asyncio.sleep(0.001)

    await asyncio.gather(*(caller(number) for number in range(100)))
    assert len(begun) == 100
    assert not [moment for moment in begun if ban[0] < moment < ban[0] + 0.29]
    assert len([moment for moment in begun if moment > ban[0]]) == 80


async def test_a_ban_of_one_api_leaves_the_others_free_and_frees_their_slots(make_gate: MakeGate) -> None:
    subject = make_gate(max_in_flight=1, max_wait_seconds=1200)
    await subject.ban(Scope.APP_API, API, 600)
    held = asyncio.create_task(_admitted(subject, API))
    await asyncio.wait_for(_admitted(subject, OTHER), pace.AT_ONCE_SECONDS)
    assert not held.done()
    held.cancel()
    await asyncio.wait([held])


async def test_a_ban_of_the_app_holds_everything_back(make_gate: MakeGate) -> None:
    subject = make_gate()
    begun = time.monotonic()
    await subject.ban(Scope.APP, API, 0.2)
    await asyncio.gather(_admitted(subject, API), _admitted(subject, OTHER))
    assert time.monotonic() - begun >= 0.2


async def _with_places_at_hand(subject: BudgetGate) -> None:
    """Call until two places are left over, so that the next callers need not wait for a place."""
    async with asyncio.timeout(pace.AT_ONCE_SECONDS):
        while not any(len(queue.places) >= 2 for queue in subject._room.queues):
            # On a busy machine a place may come later than the subject waits for it.
            with suppress(CallLimitedError):
                await _admitted(subject, API)


async def test_a_place_at_hand_is_not_used_during_a_ban(make_gate: MakeGate) -> None:
    subject = make_gate(calls_per_second=100_000)
    await _with_places_at_hand(subject)
    begun = time.monotonic()
    await subject.ban(Scope.API, API, 0.2)
    await _admitted(subject, API)
    assert time.monotonic() - begun >= 0.2


async def test_a_place_at_hand_is_not_used_while_all_slots_are_in_use(make_gate: MakeGate) -> None:
    subject = make_gate(calls_per_second=100_000, max_in_flight=1, max_wait_seconds=0.1)
    await _with_places_at_hand(subject)
    async with subject.admit(API, Priority.LIVE):
        with pytest.raises(CallLimitedError):
            await _admitted(subject, API)


async def test_a_new_caller_does_not_overtake_a_waiting_caller(
    make_gate: MakeGate,
) -> None:
    skipped_seconds = 0.0
    subject = make_gate(
        calls_per_second=20, max_in_flight=1, clock=lambda: time.monotonic() + skipped_seconds
    )
    order: list[str] = []

    async def caller(name: str) -> None:
        async with subject.admit(API, Priority.LIVE):
            order.append(name)

    await caller("before")
    waiting = asyncio.create_task(caller("first"))
    await eventually(lambda: any(queue.places for queue in subject._room.queues))
    # The place falls due before the event loop can notice it.
    skipped_seconds = 0.06
    await caller("second")
    await waiting
    assert order == ["before", "first", "second"]


async def test_a_limit_of_one_seller_closes_nothing(make_gate: MakeGate) -> None:
    subject = make_gate()
    await subject.ban(Scope.SELLER, API, 60)
    await asyncio.wait_for(_admitted(subject, API), pace.AT_ONCE_SECONDS)


async def test_a_later_shorter_ban_does_not_open_the_gate_earlier(make_gate: MakeGate) -> None:
    subject = make_gate()
    await subject.ban(Scope.API, API, 60)
    await subject.ban(Scope.API, API, 0.01)
    assert subject.closed_for_seconds(API) > 59


async def test_a_ban_that_is_lengthened_is_waited_out_to_its_end(make_gate: MakeGate) -> None:
    subject = make_gate()
    await subject.ban(Scope.API, API, 0.1)
    task = asyncio.create_task(_admitted(subject, API))
    await asyncio.sleep(0)
    lengthened = time.monotonic()
    await subject.ban(Scope.API, API, 0.3)
    await task
    assert time.monotonic() - lengthened >= 0.3


async def test_a_ban_between_grant_and_turn_stops_the_call(make_gate: MakeGate) -> None:
    subject = make_gate(max_in_flight=1, calls_per_second=100_000)
    async with subject.admit(API, Priority.LIVE):
        waiting = asyncio.create_task(_admitted(subject, API))
        await asyncio.sleep(0)
    # Leaving the block gave the slot to the task, which has not run yet.
    banned_at = time.monotonic()
    await subject.ban(Scope.API, API, 0.2)
    await waiting
    assert time.monotonic() - banned_at >= 0.2


async def test_the_live_priority_goes_first(make_gate: MakeGate) -> None:
    subject = make_gate(max_in_flight=1)
    order: list[Priority] = []

    async def caller(priority: Priority) -> None:
        async with subject.admit(API, priority):
            order.append(priority)

    async with subject.admit(API, Priority.LIVE):
        tasks = [
            asyncio.create_task(caller(priority))
            for priority in (Priority.SWEEP, Priority.GAP, Priority.LIVE, Priority.BOOTSTRAP)
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == [Priority.LIVE, Priority.GAP, Priority.BOOTSTRAP, Priority.SWEEP]


async def test_a_ban_longer_than_the_bound_is_raised_at_once_with_its_length(make_gate: MakeGate) -> None:
    subject = make_gate(max_wait_seconds=120)
    await subject.ban(Scope.APP, API, 31063)
    begun = time.monotonic()
    with pytest.raises(CallLimitedError) as caught:
        await _admitted(subject, OTHER)
    assert time.monotonic() - begun < pace.AT_ONCE_SECONDS
    assert caught.value.scope is Scope.APP
    assert caught.value.wait_seconds == pytest.approx(31063, abs=pace.AT_ONCE_SECONDS)


async def test_waiting_for_a_permit_is_bounded(make_gate: MakeGate) -> None:
    subject = make_gate(max_in_flight=1, max_wait_seconds=0.5)
    async with subject.admit(API, Priority.LIVE):
        with pytest.raises(CallLimitedError, match="no permit within"):
            await _admitted(subject, API)


async def test_the_number_of_waiting_callers_is_bounded(make_gate: MakeGate) -> None:
    subject = make_gate(max_in_flight=1)
    async with subject.admit(API, Priority.LIVE):
        tasks = [asyncio.create_task(_admitted(subject, API)) for _ in range(200)]
        await asyncio.sleep(0)
        with pytest.raises(CallLimitedError, match="waiting already"):
            await _admitted(subject, API)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_cancelled_callers_lose_neither_slots_nor_places(make_gate: MakeGate) -> None:
    subject = make_gate(max_in_flight=2, calls_per_second=100_000)
    for turns in range(6):
        tasks = [asyncio.create_task(_admitted(subject, API)) for _ in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with (
        subject.admit(API, Priority.LIVE),
        asyncio.timeout(pace.AT_ONCE_SECONDS),
        subject.admit(API, Priority.LIVE),
    ):
        pass


async def test_a_caller_cancelled_after_its_grant_gives_the_slot_back(make_gate: MakeGate) -> None:
    subject = make_gate(max_in_flight=1, calls_per_second=100_000)
    async with subject.admit(API, Priority.LIVE):
        waiting = asyncio.create_task(_admitted(subject, API))
        await asyncio.sleep(0)
    # Leaving the block gave the slot to the task, which is cancelled before it runs.
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(_admitted(subject, API), pace.AT_ONCE_SECONDS)


async def test_callers_that_queue_during_a_ban_use_up_no_places_of_others(
    make_gate: MakeGate,
) -> None:
    subject = make_gate(calls_per_second=10, max_wait_seconds=1200)
    banned = [asyncio.create_task(_admitted(subject, API)) for _ in range(20)]
    await asyncio.sleep(0)
    await subject.ban(Scope.API, API, 600)
    async with asyncio.timeout(pace.seconds(1.5)), subject.admit(OTHER, Priority.SWEEP):
        pass
    for task in banned:
        task.cancel()
    await asyncio.gather(*banned, return_exceptions=True)


async def test_slots_in_flight_are_shared_and_a_busy_live_priority_starves_nobody(
    make_gate: MakeGate,
) -> None:
    subject = make_gate(max_in_flight=1, calls_per_second=100_000)
    swept = asyncio.Event()

    async def busy() -> None:
        while not swept.is_set():
            async with subject.admit(API, Priority.LIVE):
                await asyncio.sleep(0.002)

    async def sweeper() -> None:
        async with subject.admit(OTHER, Priority.SWEEP):
            swept.set()

    async with asyncio.timeout(pace.AT_ONCE_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(busy())
        group.create_task(sweeper())


async def test_an_api_with_a_limit_of_its_own_does_not_hold_the_others_up(make_gate: MakeGate) -> None:
    subject = make_gate(api_limits={API: 5.0}, max_wait_seconds=1.5)
    slow = [asyncio.create_task(_admitted(subject, API)) for _ in range(20)]
    async with asyncio.timeout(1):
        await asyncio.gather(*(_admitted(subject, OTHER) for _ in range(50)))
    outcomes = await asyncio.gather(*slow, return_exceptions=True)
    admitted = [outcome for outcome in outcomes if outcome is None]
    assert 1 <= len(admitted) <= 1 + 5 * (1.5 + LEASE_SECONDS)
    assert all(isinstance(outcome, CallLimitedError) for outcome in outcomes if outcome is not None)


async def test_a_permanent_failure_of_the_book_is_raised_to_all_waiting_callers() -> None:
    class BrokenBook(LocalBook):
        async def lease(self, ask: Ask) -> LeaseGrant:
            raise LookupError("no row for the app")

    subject = BudgetGate(BrokenBook(CallLimits()))
    for _ in range(2):
        with pytest.raises(LookupError, match="no row"):
            await asyncio.wait_for(_admitted(subject, API), pace.AT_ONCE_SECONDS)


async def test_calls_in_a_row_do_not_cost_a_lease_each() -> None:
    asks: list[Ask] = []

    class CountingBook(LocalBook):
        async def lease(self, ask: Ask) -> LeaseGrant:
            asks.append(ask)
            return await super().lease(ask)

    subject = BudgetGate(CountingBook(CallLimits(calls_per_second=100_000)))
    for _ in range(2000):
        await _admitted(subject, API)
    assert len(asks) < 200
    # Unused leases lapse, and are given back with the next request.
    begun = time.monotonic()
    await eventually(lambda: time.monotonic() > begun + LEASE_SECONDS)
    await _admitted(subject, API)
    leased, returned = sum(ask.wanted for ask in asks), sum(ask.returned for ask in asks)
    assert 2001 <= leased - returned <= 2001 + asks[-1].wanted


async def test_places_are_leased_before_the_last_is_used_so_that_callers_need_not_wait() -> None:
    left: list[int] = []

    class WatchingBook(LocalBook):
        async def lease(self, ask: Ask) -> LeaseGrant:
            left.append(sum(len(queue.places) for queue in subject._room.queues))
            return await super().lease(ask)

    subject = BudgetGate(WatchingBook(CallLimits(calls_per_second=100_000)))
    for _ in range(2000):
        await _admitted(subject, API)
        await asyncio.sleep(0)
    assert sum(places > 0 for places in left) > len(left) / 2


async def test_the_last_calls_of_the_day_are_made_although_the_next_lease_was_refused_before() -> None:
    class DayBook(LocalBook):
        async def lease(self, ask: Ask) -> LeaseGrant:
            return replace(await super().lease(ask), day_ends_in_seconds=3600.0)

    subject = BudgetGate(DayBook(CallLimits(calls_per_second=100_000, calls_per_day=200)))
    for _ in range(200):
        await _admitted(subject, API)
        # Slower than the pause between two requests: the last calls are made while places are left.
        await asyncio.sleep(0.002)
    with pytest.raises(CallLimitedError, match="used up"):
        await _admitted(subject, API)


async def _admitted(subject: BudgetGate, api: str) -> None:
    async with subject.admit(api, Priority.LIVE):
        pass
