"""A shop that stops is noticed, and chance is not: what is usual, and what is far from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.model import usual
from topsync.model.span import Span
from topsync.model.usual import AnswerHour, RiseRules, ShopHour, SilenceRules, Usual

RULES = SilenceRules()
RISE = RiseRules()
MOST_FALSE_SILENCES = 5e-7
"""Of a shop whose orders come independently of each other, at whatever rate, in each window that is judged:
docs/operations.md says so."""

MOST_FALSE_RISES = 1e-5
"""The same of an hour's answers."""

HOUR = timedelta(hours=1)
NOON = datetime(2026, 11, 4, 4, tzinfo=UTC)


def poisson(rate: float) -> list[float]:
    """How probable each count is, as far as it counts."""
    most = int(rate + 12 * math.sqrt(rate) + 30)
    return [math.exp(count * math.log(rate) - rate - math.lgamma(count + 1)) for count in range(most)]


def sums(probabilities: list[float]) -> list[float]:
    """How probable each count or less is."""
    found, total = [], 0.0
    for each in probabilities:
        total = min(1.0, total + each)
        found.append(total)
    return found


def nth_of(weeks: int, nth: int, below: list[float]) -> Iterator[tuple[int, float]]:
    """How probable it is that each count is the nth smallest of so many weeks."""
    reached = [
        sum(
            math.comb(weeks, some) * each**some * (1 - each) ** (weeks - some)
            for some in range(nth, weeks + 1)
        )
        for each in below
    ]
    yield 0, reached[0]
    for count, (before, here) in enumerate(pairwise(reached), 1):
        yield count, here - before


def by_chance(median: float) -> Usual:
    """With the smallest deviation that can go with a median: with any larger one, less is said."""
    return Usual(median, 0.0, math.sqrt(median), RULES.least_weeks)


@cache
def far_below(median: int) -> int:
    """How many counts are far below what is usual: 0, 1, ..."""
    expected = by_chance(median)
    return sum(usual.is_far_below(count, expected, RULES) for count in range(median))


@cache
def rising_from(median: int, of: int) -> int:
    """From how many answers that are behind on it is a rise, of `of`, where so many are usual."""
    expected = usual.usual_behind(answers(0, of), [answers(median, of)] * RISE.weeks, RISE)
    assert expected is not None
    return next(count for count in range(of) if usual.has_risen(answers(count, of), expected, RISE))


@pytest.mark.parametrize("weeks", range(RULES.least_weeks, RULES.weeks + 1))
def test_a_shop_whose_orders_come_by_chance_counts_as_silent_next_to_never(weeks: int) -> None:
    """Computed, not tried: over every count that the weeks may have had and the present hour may have."""
    worst = 0.0
    for rate in range(10, 150):
        below = sums(poisson(rate))
        false = sum(
            probability * below[far - 1]
            for median, probability in nth_of(weeks, (weeks + 1) // 2, below)
            if (far := far_below(median))
        )
        worst = max(worst, false)
    assert 0 < worst < MOST_FALSE_SILENCES


@given(st.lists(st.integers(0, 5000), min_size=RULES.least_weeks, max_size=RULES.weeks), st.data())
def test_a_shop_is_silent_only_far_below_what_half_of_its_weeks_had(
    weeks: list[int], data: st.DataObject
) -> None:
    expected = usual.usual(weeks, RULES.least_weeks)
    assert expected is not None
    count = data.draw(st.integers(0, max(weeks)))
    if usual.is_far_below(count, expected, RULES):
        least = count / RULES.share
        assert sum(each > least for each in weeks) >= len(weeks) / 2
        assert expected.median >= RULES.least_orders


@given(
    st.integers(100, 5000),
    st.lists(st.floats(0.85, 1.15), min_size=RULES.least_weeks, max_size=RULES.weeks),
)
def test_a_shop_that_stops_is_silent(orders: int, weeks: list[float]) -> None:
    expected = usual.usual([round(orders * each) for each in weeks], RULES.least_weeks)
    assert expected is not None
    assert usual.is_far_below(0, expected, RULES)
    assert not usual.is_far_below(round(orders * 0.7), expected, RULES)


def test_weeks_that_were_odd_themselves_hide_nothing_as_long_as_they_are_few() -> None:
    expected = usual.usual([200, 0, 210, 2000, 190, 205], RULES.least_weeks)
    assert expected is not None
    assert usual.is_far_below(3, expected, RULES)


@pytest.mark.parametrize("orders", range(21, RULES.least_orders))
def test_a_quiet_shop_is_never_silent_even_where_chance_would_allow_to_say_so(orders: int) -> None:
    expected = by_chance(orders)
    assert expected.median > RULES.times_chance * expected.by_chance, "only its quietness speaks for it"
    assert not usual.is_far_below(0, expected, RULES)


def test_too_few_weeks_say_nothing() -> None:
    assert usual.usual([200] * (RULES.least_weeks - 1), RULES.least_weeks) is None


def hour(orders: int, expected: int, by_messages: int | None = None) -> ShopHour:
    return ShopHour(orders, orders if by_messages is None else by_messages, by_chance(expected))


def test_a_shop_is_silent_only_while_messages_of_others_flow() -> None:
    flowing = {1: hour(0, 200), 2: hour(190, 200), 3: hour(900, 1000)}
    assert usual.silent(flowing, RULES) == [1]
    # Orders of others that lists alone have brought do not count: messages are the push connection's matter.
    listed = {shop: hour(each.orders, 1000, by_messages=0) for shop, each in flowing.items()}
    assert usual.silent(listed, RULES) == []
    everybody = {shop: hour(0, 200) for shop in flowing}
    assert usual.silent(everybody, RULES) == []
    assert usual.silent({1: hour(0, 200)}, RULES) == []


def test_a_quiet_holiday_makes_no_shop_silent() -> None:
    """All have a tenth of their orders: nobody is far below what the others lead to expect."""
    assert usual.silent({shop: hour(20, 200) for shop in range(50)}, RULES) == []


def test_the_flow_of_others_does_not_count_the_silent_shop_itself() -> None:
    """However large it is: nearly all of the usual orders are its own."""
    assert usual.silent({1: hour(0, 100_000), 2: hour(40, 40)}, RULES) == [1]
    assert usual.silent({1: hour(50, 100_000), 2: hour(0, 1000)}, RULES) == []


def test_the_same_hours_of_earlier_weeks_leave_out_those_in_which_a_sale_was_on() -> None:
    window = Span(NOON, NOON + HOUR)
    sale = Span(NOON - timedelta(days=15), NOON - timedelta(days=14) + timedelta(minutes=1))
    assert [NOON - each.start for each in usual.same_hours(window, 4, [sale])] == [
        timedelta(weeks=1),
        timedelta(weeks=3),
        timedelta(weeks=4),
    ]


def answers(behind: float, of: int = 10_000) -> AnswerHour:
    return AnswerHour(NOON, of, round(behind))


@pytest.mark.parametrize("weeks", range(RISE.least_weeks, RISE.weeks + 1))
def test_answers_that_are_behind_by_chance_are_next_to_never_a_rise(weeks: int) -> None:
    """Computed over every usual count, for hours with as many answers."""
    worst = 0.0
    for rate in range(1, 100):
        below = sums(poisson(rate))
        false = sum(
            probability * (1 - below[rising - 1])
            for median, probability in nth_of(weeks, weeks // 2 + 1, below)
            if (rising := rising_from(median, 2000)) <= len(below)
        )
        worst = max(worst, false)
    assert 0 < worst < MOST_FALSE_RISES


@given(st.floats(0, 0.1), st.integers(1000, 100_000))
def test_a_rise_to_the_half_of_all_answers_is_noticed(share: float, of: int) -> None:
    expected = usual.usual_behind(answers(0, of), [answers(share * of, of)] * 6, RISE)
    assert expected is not None
    assert usual.has_risen(answers(of / 2, of), expected, RISE)
    assert not usual.has_risen(answers(share * of, of), expected, RISE)


@pytest.mark.parametrize("median", [0, 5, 50, 500])
def test_what_chance_may_bring_is_no_rise_however_little_the_settings_ask_for(median: int) -> None:
    rules = RiseRules(least_behind=1, least_share=1e-9, times=1.01)
    expected = usual.usual_behind(answers(0), [answers(median)] * 8, rules)
    assert expected is not None
    by_chance = math.sqrt(max(1, median))
    assert not usual.has_risen(answers(median + 4 * by_chance), expected, rules)
    assert usual.has_risen(answers(median + 6 * by_chance), expected, rules)


def test_a_rise_needs_enough_answers_and_enough_weeks() -> None:
    usually = [answers(10)] * 8
    assert usual.usual_behind(answers(50, RISE.least_answers - 1), usually, RISE) is None
    assert usual.usual_behind(answers(50), usually[: RISE.least_weeks - 1], RISE) is None
    # Weeks with few answers are no weeks.
    assert usual.usual_behind(answers(50), [answers(1, 10)] * 8, RISE) is None
    expected = usual.usual_behind(answers(0, 200), [answers(0, 200)] * 8, RISE)
    assert expected is not None
    assert not usual.has_risen(answers(RISE.least_behind - 1, 200), expected, RISE)
