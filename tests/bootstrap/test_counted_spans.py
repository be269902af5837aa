"""How many days are counted at once: a span is halved until it is a day, and what is refused is learnt."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from bootstrap.counted_spans import DaySpan, LongestCount
from bootstrap.cutting import DAY

FIRST = date(2026, 11, 1)


@given(st.integers(2, 400))
def test_halves_are_the_span_and_differ_by_a_day_at_most(number: int) -> None:
    span = DaySpan(FIRST, FIRST + DAY * (number - 1))
    first, last = span.halves()
    assert (first.first, last.last) == (span.first, span.last)
    assert last.first == first.last + DAY
    assert first.number + last.number == number
    assert first.number - last.number in (0, 1)


@given(st.integers(1, 400), st.integers(1, 400))
def test_the_longest_that_is_answered_is_found_with_few_refusals(number: int, answered: int) -> None:
    longest, span, refusals = LongestCount(), DaySpan(FIRST, FIRST + DAY * (number - 1)), 0
    while span.number > answered:
        if longest.allows(span):
            longest.refused(span)
            refusals += 1
        span = next(span.halves())
    assert longest.allows(span)
    assert refusals <= 9


def test_a_single_day_is_always_counted() -> None:
    longest, day = LongestCount(), DaySpan(FIRST, FIRST)
    longest.refused(DaySpan(FIRST, FIRST + DAY))
    longest.refused(day)
    assert longest.allows(day)
    assert not longest.allows(DaySpan(FIRST, FIRST + DAY))
