"""Values as text: the quick functions give the same as the plain functions."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from schemas import platform_time
from topsync.simulator import wire

seconds = st.integers(0, 4_000_000_000)


@given(seconds)
def test_times_are_the_platforms_texts(second: int) -> None:
    assert wire.time_text(second) == platform_time.format(datetime.fromtimestamp(second, UTC))
    assert wire.second_of(wire.time_text(second)) == second


@given(seconds)
def test_a_day_begins_at_midnight_of_the_platform(second: int) -> None:
    midnight = platform_time.start_of(platform_time.day_of(datetime.fromtimestamp(second, UTC)))
    assert wire.start_of_day(second) == int(midnight.timestamp())


@given(st.integers(-(10**9), 10**9))
def test_money_is_yuan_with_two_decimals(cents: int) -> None:
    assert wire.money(cents) == f"{Decimal(cents) / 100:.2f}"
