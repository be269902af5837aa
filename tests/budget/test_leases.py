"""The rule of the call budget: the bound in any window, the priorities, their shares, the days."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topsync.budget import leases
from topsync.budget.leases import FURTHEST_SECONDS, LEASE_SECONDS, Ask, TimeLine
from topsync.model.call_limits import APP, CallLimits
from topsync.model.priority import Priority

API = "taobao.trades.sold.increment.get"
TICK_SECONDS = 0.01


def within_bound(moments: list[float], calls_per_second: float) -> bool:
    """Whether any t seconds hold at most 1 + limit * (t + LEASE_SECONDS) of the moments."""
    moments = sorted(moments)
    return all(
        later - first + 1 <= 1 + calls_per_second * (moments[later] - moments[first] + LEASE_SECONDS) + 1e-6
        for first in range(len(moments))
        for later in range(first, len(moments))
    )


asks = st.tuples(
    st.floats(0, 0.3),
    st.sampled_from(Priority),
    st.booleans(),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)


@settings(max_examples=300)
@given(
    st.lists(asks, min_size=1, max_size=60),
    st.floats(0.5, 200),
    st.floats(0.5, 200),
)
def test_no_window_has_more_calls_than_the_bound_whoever_asks_and_however_late_places_are_used(
    history: list[tuple[float, Priority, bool, int, random.Random]], app_limit: float, api_limit: float
) -> None:
    limits = CallLimits(calls_per_second=app_limit, api_calls_per_second={API: api_limit})
    state: dict[str, TimeLine] = {}
    now = 1000.0
    calls: list[float] = []
    api_calls: list[float] = []
    for pause, priority, of_api, wanted, dice in history:
        now += pause
        grant = leases.lease(state, limits, Ask(priority, API if of_api else APP, wanted), now)
        assert grant.calls <= wanted
        for number in range(grant.calls):
            place = now + grant.starts_in_seconds + number * grant.spacing_seconds
            if place > now + LEASE_SECONDS:
                continue
            used = dice.uniform(place, now + LEASE_SECONDS)
            calls.append(used)
            if of_api:
                api_calls.append(used)
    assert within_bound(calls, app_limit)
    assert within_bound(api_calls, api_limit)


def contended(
    demand: set[Priority], *, calls_per_second: float, seconds: float
) -> dict[Priority, list[float]]:
    """When each priority got its calls while all of `demand` want more than there is, in any order."""
    limits = CallLimits(calls_per_second=calls_per_second)
    state: dict[str, TimeLine] = {}
    dice = random.Random(1)
    got: dict[Priority, list[float]] = {priority: [] for priority in demand}
    for tick in range(int(seconds / TICK_SECONDS)):
        now = 50.0 + tick * TICK_SECONDS
        for priority in dice.sample(sorted(demand), len(demand)):
            grant = leases.lease(state, limits, Ask(priority, APP, 100), now)
            got[priority] += [now] * grant.calls
    return got


@pytest.mark.parametrize("calls_per_second", [4.0, 20.0, 500.0])
def test_under_contention_each_priority_has_its_share_and_the_live_priority_the_rest(
    calls_per_second: float,
) -> None:
    seconds = 200.0 if calls_per_second < 100 else 10.0
    got = contended(set(Priority), calls_per_second=calls_per_second, seconds=seconds)
    total = sum(len(moments) for moments in got.values())
    assert total == pytest.approx(calls_per_second * seconds, rel=0.03)
    for priority, share in leases.GUARANTEED_SHARES.items():
        # A share is checked only when the priority asks, here every 10 ms.
        due = seconds / (1 / (share * calls_per_second) + TICK_SECONDS / 2)
        assert len(got[priority]) == pytest.approx(due, rel=0.25, abs=2)
    assert len(got[Priority.LIVE]) >= 0.7 * total


@pytest.mark.parametrize("priority", list(leases.GUARANTEED_SHARES))
def test_no_priority_starves_because_its_longest_wait_is_guaranteed(priority: Priority) -> None:
    calls_per_second = 20.0
    moments = contended(set(Priority), calls_per_second=calls_per_second, seconds=120)[priority]
    longest = max(later - earlier for earlier, later in itertools.pairwise(moments))
    allowed = 1 / (leases.GUARANTEED_SHARES[priority] * calls_per_second)
    assert longest <= allowed + len(Priority) / calls_per_second


@pytest.mark.parametrize(
    ("first", "second"), [(Priority.GAP, Priority.OPERATOR), (Priority.BOOTSTRAP, Priority.SWEEP)]
)
def test_the_more_urgent_priority_gets_the_rest(first: Priority, second: Priority) -> None:
    got = contended({first, second}, calls_per_second=50, seconds=60)
    assert len(got[first]) >= 0.9 * sum(len(moments) for moments in got.values())


@pytest.mark.parametrize("priority", Priority)
def test_a_priority_alone_has_everything(priority: Priority) -> None:
    assert len(contended({priority}, calls_per_second=50, seconds=60)[priority]) == pytest.approx(
        3000, rel=0.02
    )


def test_a_priority_loses_nothing_later_for_calls_that_it_made_when_there_was_plenty() -> None:
    limits, state, now = CallLimits(calls_per_second=20), dict[str, TimeLine](), 10.0
    for tick in range(1000):
        leases.lease(state, limits, Ask(Priority.SWEEP, APP, 100), now + tick * TICK_SECONDS)
    now += 10.0
    waited = 0.0
    while not leases.lease(state, limits, Ask(Priority.SWEEP, APP, 1), now).calls:
        leases.lease(state, limits, Ask(Priority.LIVE, APP, 100), now)
        now += TICK_SECONDS
        waited += TICK_SECONDS
    assert waited <= 1 / (0.05 * 20) + 0.1


def test_an_idle_scope_saves_up_nothing() -> None:
    limits, state = CallLimits(calls_per_second=100), dict[str, TimeLine]()
    leases.lease(state, limits, Ask(Priority.LIVE, APP, 1), 0.0)
    grant = leases.lease(state, limits, Ask(Priority.LIVE, APP, 1000), 3600.0)
    assert grant.calls == math.floor(leases.horizon_seconds(Priority.LIVE) * 100) + 1
    assert grant.spacing_seconds == 0.01


def test_an_api_with_a_limit_of_its_own_is_held_to_it_and_leaves_the_rest_to_others() -> None:
    limits = CallLimits(calls_per_second=100, api_calls_per_second={API: 5})
    state: dict[str, TimeLine] = {}
    made: Counter[str] = Counter()
    for tick in range(1000):
        for scope in (API, APP):
            made[scope] += leases.lease(
                state, limits, Ask(Priority.LIVE, scope, 50), tick * TICK_SECONDS
            ).calls
    assert made[API] == pytest.approx(50, abs=2)
    assert made[API] + made[APP] == pytest.approx(1000, rel=0.03)


def test_a_priority_gets_a_place_at_the_time_at_which_it_is_to_ask_again() -> None:
    limits, state, now = CallLimits(calls_per_second=10), dict[str, TimeLine](), 5.0
    for priority in (Priority.LIVE, Priority.SWEEP):
        while (grant := leases.lease(state, limits, Ask(priority, APP, 1), now)).calls:
            pass
        assert grant.again_in_seconds > 0
        now += grant.again_in_seconds + 1e-9
        assert leases.lease(state, limits, Ask(priority, APP, 1), now).calls == 1


def test_the_last_calls_of_a_day_are_for_the_live_priority() -> None:
    limits = CallLimits(calls_per_second=1000, calls_per_day=100, live_reserve=30)
    state: dict[str, TimeLine] = {}
    for priority, first_second, expected in ((Priority.SWEEP, 0, 70), (Priority.LIVE, 100, 30)):
        grants = [
            leases.lease(state, limits, Ask(priority, APP, 50), second)
            for second in range(first_second, first_second + 50)
        ]
        assert sum(grant.calls for grant in grants) == expected
        assert grants[-1].day_is_spent


def test_calls_that_were_never_made_do_not_count_against_the_day() -> None:
    limits = CallLimits(calls_per_second=1000, calls_per_day=10)
    state: dict[str, TimeLine] = {}
    assert leases.lease(state, limits, Ask(Priority.LIVE, APP, 10), 0.0).calls == 10
    assert leases.lease(state, limits, Ask(Priority.LIVE, APP, 10), 1.0).day_is_spent
    assert leases.lease(state, limits, Ask(Priority.LIVE, APP, 10, returned=4), 2.0).calls == 4


def test_a_clock_that_was_set_back_delays_nobody() -> None:
    limits, state = CallLimits(calls_per_second=20), dict[str, TimeLine]()
    leases.lease(state, limits, Ask(Priority.LIVE, APP, 5), 10_000.0)
    grant = leases.lease(state, limits, Ask(Priority.LIVE, APP, 5), 10.0)
    assert grant.again_in_seconds <= FURTHEST_SECONDS + 1 / 20


def test_a_place_can_be_reached_before_its_lease_ends() -> None:
    assert max(leases.horizon_seconds(priority) for priority in Priority) < FURTHEST_SECONDS < LEASE_SECONDS
