"""A dry run's minutes are those of the budget as it is, not of the budget as it is written down (P3)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from topsync.coverage import replay_forecast
from topsync.coverage.replay_forecast import BudgetNow, forecast

IDLE = BudgetNow(calls_per_second=20, urgent_per_second=0, left_today=None)


def test_an_idle_budget_is_used_whole_and_a_busy_one_only_where_the_urgent_leave_something() -> None:
    assert forecast(1200, IDLE).minutes == 1
    assert forecast(1200, replace(IDLE, urgent_per_second=10)).minutes == 2
    # The guaranteed share: a twentieth.
    assert forecast(1200, replace(IDLE, urgent_per_second=20)).minutes == 20
    assert forecast(1200, replace(IDLE, urgent_per_second=35)).minutes == 20


def test_a_ban_is_waited_out_first() -> None:
    assert forecast(1200, replace(IDLE, banned_seconds=600)).minutes == 11


def test_what_the_day_does_not_leave_waits_for_midnight_and_says_so() -> None:
    tight = replace(IDLE, left_today=200, day_ends_in_seconds=3600)
    found = forecast(1400, tight)
    assert found.minutes == 61
    assert "leaves it 200 calls, and the other 1200 wait until after midnight" in found.delays
    assert "leaves it 0 calls" in forecast(5, replace(tight, left_today=0)).delays
    assert "midnight" not in forecast(200, tight).delays


def test_what_waits_is_named() -> None:
    assert "sweeps and bulk starts have only" in forecast(1, IDLE).delays
    assert "the bulk start that is under way" in forecast(1, replace(IDLE, bulk_starts=1)).delays
    assert "the 3 bulk starts that are under way" in forecast(1, replace(IDLE, bulk_starts=3)).delays


def test_only_urgent_calls_count_and_a_new_day_begins_with_none() -> None:
    before, after = {"live": 100, "gap": 10, "sweep": 50}, {"live": 130, "gap": 20, "sweep": 90}
    assert replay_forecast.urgent_per_second(before, after, seconds=4) == 10
    assert replay_forecast.urgent_per_second(after, {"live": 3}, seconds=4) == 0


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0, 1000),
    st.floats(0, 1000),
    st.none() | st.integers(0, 10**5),
)
def test_more_calls_and_busier_others_never_take_less_time(
    calls: int, more: int, urgent: float, busier: float, left: int | None
) -> None:
    budget = BudgetNow(calls_per_second=20, urgent_per_second=urgent, left_today=left)
    least = forecast(calls, budget).minutes
    assert forecast(calls + more, budget).minutes >= least
    assert forecast(calls, replace(budget, urgent_per_second=urgent + busier)).minutes >= least
    assert least >= round(calls / 20 / 60, 2)
