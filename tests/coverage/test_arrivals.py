"""How late changes appear is measured without a mistake, whatever happens between lists; and what follows."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.coverage.moving_list import (
    NOW,
    Change,
    MovingList,
    Reading,
    at,
    limits,
    moments,
    platforms,
    read,
    second_of,
    span,
)
from topsync.coverage.listing import ListingFailedError
from topsync.model import arrivals, learned_allowance
from topsync.model.arrivals import BUCKETS, LastLists, LateArrival, ListedPart, Measured
from topsync.model.learned_allowance import MARGIN, STEP, LearnedAllowance, LearningRules

REACH = 60
LONG_AGO = at(-1e6)
ALLOWANCE = timedelta(seconds=3)


def listed_parts(reading: Reading, allowance: timedelta = ALLOWANCE) -> list[ListedPart]:
    return [ListedPart(part.span, part.asked_at, allowance) for part in reading.parts]


def after(before: LastLists, reading: Reading) -> LastLists:
    return arrivals.remember(
        before,
        listed_parts(reading),
        arrivals.newest_of(part.orders for part in reading.parts),
        known={},
        oldest=LONG_AGO,
    )


def measured(before: LastLists, reading: Reading, platform: MovingList) -> Measured:
    return arrivals.measure(
        before,
        arrivals.newest_of(part.orders for part in reading.parts),
        answered_by=at(platform.now),
    )


def delays(platform: MovingList, late: LateArrival) -> list[tuple[float, float]]:
    """How late the changes of that second were: since the second's begin, and since its end."""
    second = second_of(late.modified)
    return [
        (change.visible_at - second, change.visible_at - second - 1)
        for change in platform.changes
        if change.tid == late.id and change.modified == second
    ]


@given(data=st.data())
def test_each_late_arrival_was_as_late_as_is_said_and_none_is_counted_twice(data: st.DataObject) -> None:
    """No change that was in time is called late, whatever moves, and at whatever moment a list is read."""
    delay = data.draw(st.sampled_from([0.0, 3.0, 12.0, 30.0]), "longest delay")
    platform = data.draw(platforms(allowance=delay), "platform")
    known, counted = LastLists(), set()
    for number in range(data.draw(st.integers(2, 4), "lists")):
        if number:
            platform.now += data.draw(st.floats(0.0, 20.0), "pause")
        start = data.draw(st.integers(60, 90), "start")
        how = limits(8, longest=data.draw(st.sampled_from([7, 1800])))
        asked = span(start, math.ceil(platform.now) + REACH)
        try:
            reading = read(platform, asked, how, data.draw(moments(allowance=delay), "moments"))
        except ListingFailedError:
            return  # nothing is learnt
        found = measured(known, reading, platform)
        for late in found.late:
            since_begin = [longest for longest, _ in delays(platform, late)]
            # Of changes within a second, lists show the second when the first of them is visible.
            assert min(since_begin) - 1 <= late.at_most.total_seconds()
            assert max(since_begin) > late.at_least.total_seconds()
            if not delay:
                assert late.at_least < timedelta(seconds=1)
            assert (late.id, late.modified) not in counted
            counted.add((late.id, late.modified))
        known = after(known, reading)


def test_what_appears_between_two_lists_is_a_late_arrival_and_its_delay_lies_between_them() -> None:
    platform = MovingList(NOW, changes=[Change(1, 70.0, 70.0), Change(2, 71.5, NOW + 1)])
    known = after(LastLists(), read(platform, span(60, NOW + REACH), limits(8)))
    platform.now = NOW + 5
    second = read(platform, span(65, NOW + 5 + REACH), limits(8))
    found = measured(known, second, platform)
    (late,) = found.late
    assert (late.id, late.modified) == (2, at(71))
    assert late.at_least == timedelta(seconds=NOW - 72)
    assert late.at_most >= timedelta(seconds=NOW + 5 - 71)
    assert late.exceeds
    assert found.exceeding == [late]
    assert sum(counts.shown for counts in found.counts.values()) == 1, "the other was shown before"
    assert sum(counts.lacked for counts in found.counts.values()) == 1


def test_what_a_list_could_show_in_time_is_no_late_arrival() -> None:
    """It changed after the last list, or in the second of it, or before anything that is remembered."""
    platform = MovingList(NOW, changes=[Change(1, 70.0, 70.0)])
    known = after(LastLists(), read(platform, span(60, NOW + REACH), limits(8)))
    platform.changes += [
        Change(2, NOW + 0.9, NOW + 0.9),
        Change(3, NOW + 3, NOW + 3),
        Change(4, 50.0, NOW + 1),
    ]
    platform.now = NOW + 5
    found = measured(known, read(platform, span(40, NOW + 5 + REACH), limits(8)), platform)
    assert found.late == []
    assert sum(counts.shown for counts in found.counts.values()) == 2


def test_an_order_that_changes_again_before_it_appears_is_no_evidence() -> None:
    platform = MovingList(NOW, changes=[Change(1, 70.0, NOW + 1)])
    known = after(LastLists(), read(platform, span(60, NOW + REACH), limits(8)))
    platform.changes.append(Change(1, NOW + 2, NOW + 2))
    platform.now = NOW + 5
    assert measured(known, read(platform, span(60, NOW + 5 + REACH), limits(8)), platform).late == []


def test_where_the_last_list_did_not_reach_the_list_before_it_counts() -> None:
    platform = MovingList(NOW, changes=[Change(1, 70.0, NOW + 2), Change(2, 70.0, 70.0)])
    known = after(LastLists(), read(platform, span(60, NOW + REACH), limits(8)))
    platform.now = NOW + 1
    known = after(known, read(platform, span(90, NOW + 1 + REACH), limits(8)))
    platform.now = NOW + 5
    (late,) = measured(known, read(platform, span(60, NOW + 5 + REACH), limits(8)), platform).late
    assert (late.id, late.at_least) == (1, timedelta(seconds=NOW - 71))


def test_what_is_remembered_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MAX_IDS", 3)
    monkeypatch.setattr(arrivals, "MAX_PARTS", 4)
    known = LastLists()
    for number in range(10):
        parts = [ListedPart(span(number, NOW + number), at(50 + number), ALLOWANCE)]
        shown = {id_: at(20 + id_) for id_ in range(8)}
        known = arrivals.remember(known, parts, shown, known={}, oldest=LONG_AGO)
    assert sorted(known.shown) == [6, 7]
    assert len(known.parts) <= 4
    assert known.parts[0].span.start == at(26), "of nothing before is it known whether a list showed it"
    assert known.parts[-1].asked_at == at(59)


def test_parts_that_are_joined_say_only_what_is_true_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MAX_PARTS", 2)
    parts = [
        ListedPart(span(0, 10), at(51), timedelta(seconds=2)),
        ListedPart(span(10, 20), at(50), timedelta(seconds=5)),
        ListedPart(span(20, 99), at(52), timedelta(seconds=1)),
    ]
    known = arrivals.remember(LastLists(), parts, {}, known={}, oldest=at(5))
    assert known.parts == [ListedPart(span(5, 20), at(50), timedelta(seconds=5)), parts[2]]


def test_what_the_table_has_and_a_list_lacks_is_awaited_until_a_list_shows_it_or_it_is_too_old() -> None:
    parts = [ListedPart(span(0, 160), at(100), ALLOWANCE)]
    table = {1: at(50), 2: at(60), 3: at(70)}
    known = arrivals.remember(LastLists(), parts, {3: at(70), 2: at(40)}, known=table, oldest=LONG_AGO)
    assert known.awaited == {1: at(50), 2: at(60)}
    again = arrivals.remember(known, parts, {1: at(50), 2: at(60)}, known={}, oldest=LONG_AGO)
    assert again.awaited == {}
    assert arrivals.remember(known, parts, {}, known={}, oldest=at(55)).awaited == {2: at(60)}


def test_what_is_awaited_is_no_evidence_by_itself() -> None:
    """Only lists are: the platform may hide an order for ever, and a detail may say another time."""
    known = replace(
        after(LastLists(), read(MovingList(NOW), span(0, NOW + 60), limits(8))), awaited={1: at(9)}
    )
    assert arrivals.measure(known, {}, answered_by=at(200)).late == []


def test_each_delay_has_a_step_of_the_histogram() -> None:
    assert [arrivals.bucket_of(timedelta(seconds=seconds)) for seconds in (0, 0.9, 1, 599, 600, 1e6)] == [
        *(0, 0, 1, 300, 600),
        BUCKETS[-1],
    ]


RULES = LearningRules(is_on=True, most=timedelta(seconds=100))


def arrival(modified: float, lacked: float, shown: float, allowance: float = 10) -> LateArrival:
    return LateArrival(1, at(modified), at(lacked), at(shown), timedelta(seconds=allowance))


@given(
    learned=st.integers(0, 90),
    late=st.lists(st.tuples(st.integers(0, 50), st.integers(12, 60), st.integers(1, 9)), min_size=1),
)
def test_a_raised_allowance_is_long_enough_for_what_was_seen_and_never_beyond_the_most(
    learned: int, late: list[tuple[int, int, int]]
) -> None:
    exceeding = [arrival(m, m + lacked, m + lacked + more) for m, lacked, more in late]
    allowance = learned_allowance.raised(timedelta(seconds=learned), exceeding, RULES)
    assert timedelta(seconds=learned) <= allowance <= RULES.most
    surely = max(each.at_least for each in exceeding)
    assert allowance == RULES.most or allowance >= surely * MARGIN
    for each in exceeding:
        if each.at_most <= 2 * each.at_least:
            assert allowance == RULES.most or allowance >= each.at_most * MARGIN
    since = learned_allowance.doubted_from(exceeding, allowance)
    # A list that was asked for at the oldest late change or later proves nothing more before this moment.
    assert all(since <= each.modified - allowance for each in exceeding)


def test_where_no_list_looked_for_long_it_is_not_raised_to_when_one_did() -> None:
    """An order of a time that was taken back is listed again hours later, and was lacked at two minutes."""
    seen_late = arrival(0, lacked=13, shown=90)
    assert learned_allowance.raised(timedelta(0), [seen_late], RULES) == timedelta(seconds=2 * 12 * 1.25)


def test_it_comes_down_a_step_a_day_not_below_what_was_seen_and_then_is_forgotten() -> None:
    seconds = timedelta(seconds=1)
    learned = LearnedAllowance(1000 * seconds, at(0), at(0))
    usual = 600 * seconds

    def lowered(value: LearnedAllowance, *, longest: int, days: float) -> timedelta | None:
        return learned_allowance.lowered(
            value, longest=longest * seconds, usual=usual, now=at(0) + days * STEP
        )

    assert lowered(learned, longest=0, days=0.99) is None
    assert lowered(learned, longest=0, days=1) == 900 * seconds
    assert lowered(learned, longest=760, days=1) == 950 * seconds
    assert lowered(learned, longest=900, days=1) is None
    assert lowered(replace(learned, allowance=660 * seconds), longest=0, days=1) == timedelta(0)
    assert lowered(LearnedAllowance(), longest=0, days=1) is None


def test_what_was_learnt_holds_up_to_the_most_and_not_where_learning_is_off() -> None:
    assert RULES.in_force(timedelta(seconds=500)) == RULES.most
    assert LearningRules(is_on=False, most=RULES.most).in_force(timedelta(seconds=50)) == timedelta(0)
