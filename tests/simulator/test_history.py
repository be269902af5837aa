"""The past is a pure function of (seed, seller, number), and its inverse is exact."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import platform_time
from tests.simulator.platform_client import START, START_SECOND, make_world
from topsync.simulator.history import PastSpan, SellerHistory
from topsync.simulator.life import EventKind, TradeType, fold
from topsync.simulator.moves import Move, possible
from topsync.simulator.plans import PLAN_OF_SLOT, PLANS, SLOTS

FIRST = int(platform_time.start_of(platform_time.day_of(START) - timedelta(days=20)).timestamp())


def history(seed: int = 1, count: int = 500, seller: int = 0) -> SellerHistory:
    return SellerHistory(seed, seller, count, PastSpan(FIRST, START_SECOND))


def test_the_same_seed_gives_the_same_orders_in_any_order_of_access() -> None:
    first, other = make_world(seed=7), make_world(seed=7)
    numbers = list(range(300))
    shuffled = random.Random(3).sample(numbers, len(numbers))
    seller = first.books[0].seller
    forwards = {number: first.trade(seller, number) for number in numbers}
    assert {number: other.trade(seller, number) for number in shuffled} == forwards


def test_another_seed_gives_other_orders() -> None:
    first, other = make_world(seed=7), make_world(seed=8)
    same = sum(
        first.trade(first.books[0].seller, number) == other.trade(other.books[0].seller, number)
        for number in range(100)
    )
    assert same == 0


def test_sellers_orders_differ() -> None:
    assert history(seller=0).events(5) != history(seller=1).events(5)


@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_created_grows_with_the_number_and_stays_within_the_past(count: int) -> None:
    past = history(count=count)
    created = [past.created(number) for number in range(count)]
    assert created == sorted(created)
    assert created[0] >= FIRST
    assert created[-1] <= START_SECOND


@settings(max_examples=200)
@given(st.integers(0, 40), st.integers(1, 400), st.integers(-4000, 22 * 86400), st.integers(0, 5 * 86400))
def test_created_range_is_exactly_what_a_scan_finds(seed: int, count: int, start: int, span: int) -> None:
    past = history(seed, count)
    first, last = FIRST + start, FIRST + start + span
    scanned = [number for number in range(count) if first <= past.created(number) <= last]
    assert list(past.created_range(first, last)) == scanned


@settings(max_examples=200)
@given(
    st.integers(0, 40), st.integers(1, 300), st.integers(-4000, 22 * 86400), st.sampled_from([0, 900, 86400])
)
def test_modified_between_is_exactly_what_a_scan_finds(seed: int, count: int, start: int, span: int) -> None:
    past = history(seed, count)
    first, last = FIRST + start, FIRST + start + span
    scanned = {
        (past.modified(number), number) for number in range(count) if first <= past.modified(number) <= last
    }
    found = past.modified_between(first, last)
    assert set(found) == scanned
    assert len(found) == len(scanned)


def test_modified_between_finds_each_order_once_over_the_whole_past() -> None:
    past = history(count=4000)
    found = past.modified_between(0, START_SECOND)
    assert sorted(number for _, number in found) == list(range(4000))


@settings(max_examples=60)
@given(
    st.integers(0, 3000),
    st.integers(0, 3000),
    st.integers(0, 400),
    st.integers(1, 100),
    st.sets(st.sampled_from(list(TradeType))),
)
def test_typed_ranges_count_and_page_like_a_scan(
    start: int, length: int, offset: int, limit: int, types: set[TradeType]
) -> None:
    past = history(count=6000)
    numbers = range(start, start + length)
    expected = [number for number in reversed(numbers) if past.plan(number).type in types]
    typed = past.typed(numbers, frozenset(types))
    assert len(typed) == len(expected)
    assert typed.newest(offset, limit) == expected[offset : offset + limit]


def test_a_realistic_share_of_orders_falls_on_the_last_day() -> None:
    world = make_world(orders=90_000, history_days=89)
    past = world.books[0].history
    today = int(platform_time.start_of(platform_time.day_of(START)).timestamp())
    share = len(past.created_range(today, START_SECOND)) / 90_000
    assert 0.003 < share < 0.02


def test_the_plans_fill_their_round_exactly() -> None:
    assert sum(plan.per_mille for plan in PLANS) == SLOTS
    for plan in PLANS:
        assert PLAN_OF_SLOT[plan.first_slot] == plan
        assert PLAN_OF_SLOT[plan.first_slot + plan.per_mille - 1] == plan


def test_every_plan_occurs_in_any_two_hundred_orders() -> None:
    past = history()
    for first in (0, 137, 5000):
        assert {past.plan(number) for number in range(first, first + 200)} == set(PLANS)


def test_steps_never_change_places_whatever_jitter_is_drawn() -> None:
    for plan in PLANS:
        for before, step in pairwise(plan.steps):
            longest = before.delay_seconds + before.jitter_seconds
            assert step.with_previous or step.delay_seconds > longest, (plan, step)


def test_every_step_of_every_plan_is_a_possible_move() -> None:
    past = history(count=SLOTS)
    for number in range(SLOTS):
        plan = past.plan(number)
        events = past.events(number)
        for reached in range(1, len(events)):
            state = fold(plan.type, plan.min_lines, events[:reached])
            event = events[reached]
            delivered_at_once = event.kind is EventKind.SHIP and events[reached - 1].kind is EventKind.PAY
            assert delivered_at_once or Move(event.kind, event.line) in possible(state), (plan, event)


def test_no_event_lies_after_the_start() -> None:
    past = history(count=2000)
    for number in range(2000):
        times = [event.at for event in past.events(number)]
        assert times == sorted(times)
        assert times[-1] <= START_SECOND
        assert past.modified(number) == times[-1]
