from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from topsync.platforms.taobao.channel.backoff import Backoff, ReconnectPolicy
from topsync.platforms.taobao.channel.endings import Cause


def _waits(*endings: tuple[float, Cause]) -> list[float]:
    backoff = Backoff(ReconnectPolicy(), lambda: 0.0)
    return [backoff.delay_seconds(cause, alive_seconds=alive) for alive, cause in endings]


def test_three_seconds_doubling_to_sixty() -> None:
    assert _waits(*[(0, Cause.LOST)] * 7) == [3, 6, 12, 24, 48, 60, 60]


def test_a_refusal_starts_at_ten_seconds() -> None:
    assert _waits(*[(0, Cause.REFUSED)] * 4) == [10, 20, 40, 60]


def test_a_kick_starts_at_five_seconds_also_after_a_long_connection() -> None:
    assert _waits((3600, Cause.KICKED), (0, Cause.KICKED), (3600, Cause.KICKED)) == [5, 10, 5]


def test_a_connection_of_a_minute_resets_the_wait_and_a_shorter_one_does_not() -> None:
    assert _waits(*[(alive, Cause.LOST) for alive in (0, 0, 59, 60, 0)]) == [3, 6, 12, 3, 6]


@given(st.floats(0, 0.999), st.integers(1, 5000), st.sampled_from(Cause))
def test_chance_only_shortens_a_wait_and_never_to_zero(chance: float, failures: int, cause: Cause) -> None:
    backoff = Backoff(ReconnectPolicy(), lambda: chance)
    for _ in range(failures):
        delay = backoff.delay_seconds(cause, alive_seconds=0)
    assert 3 * 0.75 <= delay <= 60
