"""The platform's clock as seen from here: possibly late, never ahead."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.base.clock import DRIFT_PER_SECOND, MAX_DOUBTS, ClockNotSetError, ServerClock

T0 = datetime(2025, 11, 20, 2, 30, tzinfo=UTC).timestamp()
ROUNDING_SECONDS = 5e-6
"""datetime has microseconds, and a float near 1.8e9 has steps of a quarter of a microsecond."""


@dataclass
class World:
    """A local monotonic clock, and a server clock that runs at another, changing rate."""

    local: float
    server: float

    def pass_time(self, seconds: float, drift: float) -> None:
        self.local += seconds
        self.server += seconds * (1 + drift)

    def server_second(self) -> datetime:
        return datetime.fromtimestamp(math.floor(self.server), UTC)


@dataclass(frozen=True)
class Exchange:
    pause: float
    out: float
    back: float
    drift: float


latency = st.one_of(st.just(0.0), st.floats(0, 0.5), st.floats(0, 60))
exchanges = st.lists(
    st.builds(
        Exchange,
        pause=st.floats(0, 100_000),
        out=latency,
        back=latency,
        drift=st.floats(-DRIFT_PER_SECOND, DRIFT_PER_SECOND),
    ),
    min_size=1,
    max_size=12,
)


@given(
    start=st.floats(0, 1e6),
    fraction=st.floats(0, 1, exclude_max=True),
    history=exchanges,
    age=st.floats(0, 100_000),
)
def test_the_clock_is_never_ahead_of_the_server_and_its_upper_bound_never_behind(
    start: float, fraction: float, history: list[Exchange], age: float
) -> None:
    world = World(local=start, server=T0 + fraction)
    clock = ServerClock(lambda: world.local)
    for exchange in history:
        world.pass_time(exchange.pause, exchange.drift)
        sent = world.local
        world.pass_time(exchange.out, exchange.drift)
        server_second = world.server_second()
        world.pass_time(exchange.back, exchange.drift)
        clock.observe(server_second, sent=sent, received=world.local)
        assert clock.now().timestamp() <= world.server + ROUNDING_SECONDS
        assert clock.latest_now().timestamp() >= world.server - ROUNDING_SECONDS
    world.pass_time(age, history[-1].drift)
    assert clock.now().timestamp() <= world.server + ROUNDING_SECONDS
    assert clock.latest_now().timestamp() >= world.server - ROUNDING_SECONDS


def test_drift_during_a_slow_answer_counts_against_the_upper_bound() -> None:
    world = World(local=0.0, server=T0 + 0.999999)
    clock = ServerClock(lambda: world.local)
    server_second = world.server_second()  # read at the very moment of sending
    world.pass_time(60.0, DRIFT_PER_SECOND)
    clock.observe(server_second, sent=0.0, received=world.local)
    assert clock.latest_now().timestamp() >= world.server


def test_observations_narrow_the_bounds() -> None:
    world = World(local=0.0, server=T0 + 0.7)
    clock = ServerClock(lambda: world.local)
    clock.observe(world.server_second(), sent=0.0, received=0.0)
    assert clock.uncertainty_seconds == pytest.approx(1.0)
    world.pass_time(0.5, 0.0)
    clock.observe(world.server_second(), sent=world.local, received=world.local)
    assert clock.uncertainty_seconds == pytest.approx(0.5, abs=0.001)


def test_the_bounds_widen_with_age() -> None:
    world = World(local=0.0, server=T0)
    clock = ServerClock(lambda: world.local)
    clock.observe(world.server_second(), sent=0.0, received=0.0)
    world.pass_time(10_000, 0.0)
    assert clock.uncertainty_seconds == pytest.approx(1.0 + 2 * 10_000 * DRIFT_PER_SECOND)


@pytest.mark.parametrize("step_seconds", [-3600.0, 3600.0])
def test_a_clock_that_the_platform_sets_is_followed_once_the_doubt_is_over(step_seconds: float) -> None:
    """Nobody knows at first which of the two clocks is wrong, so a claim needs the support of both."""
    world = World(local=0.0, server=T0)
    clock = ServerClock(lambda: world.local, doubt_seconds=60)
    clock.observe(world.server_second(), sent=0.0, received=0.0)
    world.server += step_seconds
    clock.observe(world.server_second(), sent=0.0, received=0.0)
    assert clock.estimate().timestamp() == pytest.approx(world.server, abs=1)
    assert clock.now().timestamp() == pytest.approx(T0 + min(0, step_seconds))
    assert clock.latest_now().timestamp() == pytest.approx(T0 + max(0, step_seconds) + 1)
    world.pass_time(60.1, 0.0)
    clock.observe(world.server_second(), sent=world.local, received=world.local)
    assert clock.now().timestamp() == pytest.approx(world.server, abs=1)
    assert clock.latest_now().timestamp() == pytest.approx(world.server, abs=1)


def test_a_clock_that_goes_wrong_and_right_again_never_runs_ahead_of_the_truth() -> None:
    world = World(local=0.0, server=T0)
    clock = ServerClock(lambda: world.local, doubt_seconds=60)
    for error_seconds in (0, 900, 0, -900, 0):
        world.pass_time(1.0, 0.0)
        server_second = datetime.fromtimestamp(int(world.server) + error_seconds, UTC)
        clock.observe(server_second, sent=world.local, received=world.local)
        assert clock.now().timestamp() <= world.server <= clock.latest_now().timestamp()


def test_a_clock_that_jumps_without_end_stays_within_memory_and_forgets_no_doubt() -> None:
    world = World(local=0.0, server=T0)
    clock = ServerClock(lambda: world.local, doubt_seconds=60)
    for jump in range(1000):
        server_second = datetime.fromtimestamp(T0 + 10 * (jump % 20), UTC)
        clock.observe(server_second, sent=0.0, received=0.0)
    assert len(clock._doubted) <= MAX_DOUBTS
    assert clock.now().timestamp() == pytest.approx(T0)
    assert clock.latest_now().timestamp() == pytest.approx(T0 + 191)


def test_a_time_is_ahead_only_where_no_doubt_allows_for_it() -> None:
    world = World(local=100.0, server=T0)
    clock = ServerClock(lambda: world.local, doubt_seconds=60)
    clock.observe(world.server_second(), sent=world.local, received=world.local)
    second = timedelta(seconds=1)
    assert world.server_second() + second <= clock.latest_now()
    assert world.server_second() + 2 * second > clock.latest_now()
    # Set back, for good or by mistake: both times count for a while.
    clock.observe(world.server_second() - timedelta(minutes=9), sent=world.local, received=world.local)
    assert world.server_second() + second <= clock.latest_now()
    world.pass_time(61, 0)
    clock.observe(world.server_second() - timedelta(minutes=9), sent=world.local, received=world.local)
    assert world.server_second() > clock.latest_now()


def test_a_clock_that_was_never_set_says_so() -> None:
    clock = ServerClock()
    assert not clock.is_set
    for ask in (clock.now, clock.latest_now, lambda: clock.uncertainty_seconds):
        with pytest.raises(ClockNotSetError, match=r"taobao\.time\.get"):
            ask()


def test_an_observation_that_makes_no_sense_is_refused() -> None:
    clock = ServerClock()
    with pytest.raises(ValueError, match="offset"):
        clock.observe(datetime(2025, 11, 20), sent=0.0, received=0.0)  # noqa: DTZ001 -- the mistake itself
    with pytest.raises(ValueError, match="received"):
        clock.observe(datetime.fromtimestamp(T0, UTC), sent=1.0, received=0.0)
    assert not clock.is_set
