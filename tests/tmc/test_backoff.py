from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from topsync.tmc.backoff import Backoff, ReconnectPolicy


def _waits(*endings: tuple[float, bool], chance: float = 0.0) -> list[float]:
    backoff = Backoff(ReconnectPolicy(), lambda: chance)
    return [backoff.delay_seconds(alive_seconds=alive, refused=refused) for alive, refused in endings]


def test_three_seconds_doubling_to_sixty() -> None:
    assert _waits(*[(0.0, False)] * 7) == [3, 6, 12, 24, 48, 60, 60]


def test_a_refusal_starts_at_ten_seconds() -> None:
    assert _waits(*[(0.0, True)] * 4) == [10, 20, 40, 60]


def test_a_minute_of_life_starts_anew_and_less_does_not() -> None:
    assert _waits((0, False), (0, False), (59, False), (60, False), (0, False)) == [3, 6, 12, 3, 6]


@given(st.floats(0, 0.999), st.integers(1, 5000), st.booleans())
def test_chance_only_shortens_a_wait_and_never_to_nothing(
    chance: float, failures: int, refused: bool
) -> None:
    backoff = Backoff(ReconnectPolicy(), lambda: chance)
    for _ in range(failures):
        delay = backoff.delay_seconds(alive_seconds=0, refused=refused)
    assert 3 * 0.75 <= delay <= 60
