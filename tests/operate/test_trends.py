"""What waits gets less, or more, or stays: two looks say which, and when it is through (P5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.operate import trends
from topsync.operate.trends import Marks, Trend


@pytest.mark.parametrize(
    ("trend", "words"),
    [
        (Trend(1000, None), ""),
        (Trend(0, 0.0), ""),
        (Trend(0, -5.0), "falling by 5.0 a second"),
        (Trend(1000, 0.0), "steady"),
        (Trend(1000, 0.5), "steady"),
        (Trend(1000, 25.0), "growing by 25 a second"),
        (Trend(1000, -10.0), "falling by 10 a second, through in 1 min 40 s"),
        (Trend(10, -0.05), "falling by 3 a minute, through in 3 min 20 s"),
    ],
)
def test_a_trend_in_words(trend: Trend, words: str) -> None:
    assert trend.words == words


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 10**7)),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 10**7)),
    st.floats(0.5, 100),
)
def test_two_looks_are_compared_by_name(
    before: dict[str, int], after: dict[str, int], seconds: float
) -> None:
    found = trends.compare(Marks(before, 10.0), Marks(after, 10.0 + seconds))
    assert {name: trend.count for name, trend in found.items()} == after
    for name, trend in found.items():
        assert (trend.per_second is None) is (name not in before)
        assert not (trend.is_growing and trend.is_falling)
        if trend.is_falling:
            assert after[name] < before[name]
        if trend.is_growing:
            assert after[name] > before[name]


def test_a_single_look_shows_no_trend() -> None:
    assert trends.compare(None, Marks({"a": 1}, 1.0)) == {"a": Trend(1, None)}
    assert trends.compare(Marks({"a": 1}, 1.0), Marks({"a": 1}, 1.0)) == {"a": Trend(1, None)}
