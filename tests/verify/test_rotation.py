"""Which days a night compares: each is counted every night, and looked at by its ids within a week."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verify.moments import at_platform
from topsync.model.night import NightHours, parse_hours
from topsync.store.comparisons import DayProgress, NightsOf
from topsync.verify import rotation
from topsync.verify.rotation import NIGHTS_OF_A_TURN

FIRST_NIGHT = date(2026, 11, 1)
SELLERS = st.integers(1, 10**13)


def night(number: int) -> date:
    return FIRST_NIGHT + timedelta(days=number)


def worked(progress: dict[date, DayProgress], task: rotation.DayTask, on: date) -> None:
    """What the comparison notes of a day."""
    before = progress.get(task.day)
    progress[task.day] = DayProgress(
        before.since if before else on,
        on,
        on if task.by_ids else before.listed_on if before else None,
        0,
    )


@given(SELLERS, st.integers(0, 400))
def test_a_days_ids_have_their_turn_exactly_once_in_any_seven_nights(seller: int, age: int) -> None:
    day = FIRST_NIGHT - timedelta(days=age + 1)
    for begin in range(10):
        turns = [
            night(number)
            for number in range(begin, begin + NIGHTS_OF_A_TURN)
            if rotation.turn(seller, day, night(number)) == night(number)
        ]
        assert len(turns) == 1


@given(SELLERS, st.lists(st.booleans(), min_size=20, max_size=40))
def test_whatever_nights_end_too_soon_each_day_is_compared_in_each_night_and_by_its_ids_in_time(
    seller: int, nights_work: list[bool]
) -> None:
    days = rotation.days_within(FIRST_NIGHT - timedelta(days=30), FIRST_NIGHT)
    progress: dict[date, DayProgress] = {}
    for number, works in enumerate(nights_work):
        if not works:
            continue
        for task in rotation.tasks(seller, days, progress, night(number)):
            worked(progress, task, night(number))
        assert rotation.tasks(seller, days, progress, night(number)) == []
        for day in days:
            # Since the first night each turn that has come is made up for.
            latest = rotation.turn(seller, day, night(number))
            listed_on = progress[day].listed_on
            if latest >= progress[day].since:
                assert listed_on is not None
                assert listed_on >= latest


def test_what_was_compared_longest_ago_comes_first_and_what_was_done_tonight_does_not_come_again() -> None:
    days = [night(-3), night(-2), night(-1)]
    progress = {
        night(-3): DayProgress(night(-9), night(5), None, 0),
        night(-2): DayProgress(night(-9), night(3), None, 2),
    }
    tasks = rotation.tasks(1, days, progress, night(5))
    assert [task.day for task in tasks] == [night(-1), night(-2)]
    assert [task.unlisted for task in tasks] == [0, 2]


def test_the_turns_are_spread_over_the_nights_and_over_the_sellers() -> None:
    days = rotation.days_within(FIRST_NIGHT - timedelta(days=90), FIRST_NIGHT)
    assert len(days) == 90
    of_a_seller = Counter(
        number for number in range(7) for day in days if rotation.turn(7, day, night(number)) == night(number)
    )
    assert set(of_a_seller.values()) <= {12, 13}
    of_a_day = Counter(
        number
        for number in range(7)
        for seller in range(2200000000001, 2200000003001)
        if rotation.turn(seller, days[0], night(number)) == night(number)
    )
    assert min(of_a_day.values()) > 3000 / 7 * 0.8


def test_sellers_that_former_nights_did_not_reach_come_first() -> None:
    nights = {
        1: NightsOf(night(4), night(4)),
        2: NightsOf(night(4), night(3)),
        3: NightsOf(night(3), night(3)),
    }
    assert rotation.in_order([1, 2, 3, 4], nights) == [4, 3, 2, 1]


def test_what_a_night_has_no_time_for_is_left_over_and_comes_first_in_the_next_night() -> None:
    """3,000 sellers: a call for each of their 90 days and both kinds are 37.5 a second in four hours."""
    sellers, kinds, seconds, calls_per_second = range(1, 3001), 2, 4 * 3600, 25
    progress: dict[int, dict[date, DayProgress]] = {seller: {} for seller in sellers}

    def compare(on: date) -> tuple[int, list[int]]:
        """How many calls are left at the end of a night, and the sellers that it came to, in their order."""
        nights = {
            seller: NightsOf(on - timedelta(days=1), on - timedelta(days=1))
            for seller, known in progress.items()
            if known
        }
        days = rotation.days_within(on - timedelta(days=90), on)
        assert len(sellers) * len(days) * kinds == 540_000 == 37.5 * seconds
        calls, left, reached = calls_per_second * seconds, 0, []
        for seller in rotation.in_order(sellers, nights):
            tasks = rotation.tasks(seller, days, progress[seller], on) if calls else []
            done = min(len(tasks), calls // kinds)
            for task in tasks[:done]:
                worked(progress[seller], task, on)
            calls -= done * kinds
            left += (len(days) - done) * kinds
            reached += [seller] * bool(done)
        return left, reached

    left, first = compare(night(0))
    assert (left, len(first)) == (180_000, 2000)
    left, second = compare(night(1))
    assert left == 180_000
    assert second == [*range(2001, 3001), *range(1, 1001)], "nobody waits for a third night"


def test_a_sample_is_another_each_night_and_the_same_for_whoever_goes_on() -> None:
    ids = range(1000)
    samples = [tuple(rotation.sample(ids, night(number), 2)) for number in range(10)]
    assert len(set(samples)) == 10
    assert samples[0] == tuple(rotation.sample(list(reversed(ids)), night(0), 2))
    assert len(rotation.sample([5], night(0), 2)) == 1


@pytest.mark.parametrize(
    ("hours", "now", "expected"),
    [
        ("02:00-06:00", "2026-11-30 01:59:59", None),
        ("02:00-06:00", "2026-11-30 02:00:00", date(2026, 11, 30)),
        ("02:00-06:00", "2026-11-30 05:59:59", date(2026, 11, 30)),
        ("02:00-06:00", "2026-11-30 06:00:00", None),
        ("22:00-05:00", "2026-11-30 23:00:00", date(2026, 11, 30)),
        ("22:00-05:00", "2026-12-01 04:59:59", date(2026, 11, 30)),
        ("22:00-05:00", "2026-12-01 05:00:00", None),
    ],
)
def test_a_night_is_named_by_the_day_on_which_its_hours_begin(
    hours: str, now: str, expected: date | None
) -> None:
    parsed = parse_hours(hours)
    assert isinstance(parsed, NightHours)
    found = parsed.night(at_platform(now))
    assert (found.date if found else None) == expected
    if found is not None:
        assert found.ends_at > at_platform(now)


@pytest.mark.parametrize("text", ["2-6", "02:00", "02:00-02:00", "25:00-26:00", "02:00+08:00-06:00"])
def test_what_is_no_two_times_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hours"):
        parse_hours(text)


def test_empty_hours_mean_never() -> None:
    assert parse_hours(" ") is None
