"""Slices of a bulk start: every day is in one of them, and none is larger than it has to be."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bootstrap import cutting
from bootstrap.cutting import DayCut

FIRST = date(2025, 8, 22)


def counted(*counts: int) -> list[tuple[date, int]]:
    return [(FIRST + timedelta(days=number), count) for number, count in enumerate(counts)]


def days_of(cuts: Sequence[DayCut]) -> list[date]:
    return [day for cut in cuts for day in cutting.days(cut.first_day, cut.last_day)]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=90), st.integers(1, 100))
def test_days_are_cut_by_their_counts(counts: list[int], most: int) -> None:
    days = counted(*counts)
    cuts = cutting.by_count(days, most)
    assert days_of(cuts) == [day for day, _ in days]
    by_day = dict(days)
    for cut in cuts:
        inside = list(cutting.days(cut.first_day, cut.last_day))
        assert cut.expected == sum(by_day[day] for day in inside)
        assert cut.expected <= most or len([day for day in inside if by_day[day]]) == 1
    for before, after in itertools.pairwise(cuts):
        assert before.expected is not None
        assert before.expected + by_day[after.first_day] > most, "the next day would have fitted"


@given(st.integers(1, 90), st.integers(1, 90))
def test_days_that_nobody_counts_are_cut_evenly(days: int, most: int) -> None:
    last = FIRST + timedelta(days=days - 1)
    cuts = cutting.by_days(FIRST, last, most)
    lengths = [len(list(cutting.days(cut.first_day, cut.last_day))) for cut in cuts]
    assert days_of(cuts) == list(cutting.days(FIRST, last))
    assert max(lengths) <= most
    assert max(lengths) - min(lengths) <= 1
    assert {cut.expected for cut in cuts} == {None}


def test_a_large_day_is_a_slice_by_itself() -> None:
    assert [cut.expected for cut in cutting.by_count(counted(1, 500, 0, 2, 3), 100)] == [1, 500, 5]
