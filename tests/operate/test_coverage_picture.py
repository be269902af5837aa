"""The picture of a seller's time never shows as proven what is not (I4)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas import platform_time
from topsync.coverage import spans
from topsync.model.span import Span
from topsync.operate import coverage_picture
from topsync.operate.coverage_picture import CELL, LETTERS, Cell, Timeline

MIDNIGHT = datetime(2026, 11, 20, tzinfo=platform_time.CHINA)
MINUTE = timedelta(minutes=1)


def span(start: int, end: int) -> Span:
    """From and to, in minutes after midnight."""
    return Span(MIDNIGHT + start * MINUTE, MIDNIGHT + end * MINUTE)


@st.composite
def some_spans(draw: st.DrawFn, *, most: int = 6) -> list[Span]:
    """Spans in order that neither overlap nor touch, within two days."""
    ends = sorted(draw(st.sets(st.integers(0, 2880), max_size=2 * most)))
    return [span(start, end) for start, end in zip(ends[::2], ends[1::2], strict=False) if start < end]


MINUTES = st.integers(0, 2880).map(lambda minute: MIDNIGHT + minute * MINUTE)


@given(some_spans(), some_spans(), some_spans(), MINUTES)
def test_a_character_says_what_is_true_of_each_of_its_minutes(
    proven: list[Span], gaps: list[Span], replayed: list[Span], now: datetime
) -> None:
    timeline = Timeline(proven, gaps, replayed)
    first = proven[0].start if proven else None
    for day in coverage_picture.days(timeline, span(0, 2880), now=now):
        for number, cell in enumerate(day.cells):
            start = day.start + number * CELL
            whole = Span(start, min(start + CELL, now))
            if cell is Cell.AHEAD:
                assert start >= now
                continue
            if first is None or whole.end <= first:
                assert cell in (Cell.BEFORE, Cell.GAP)
                continue
            known = Span(max(whole.start, first), whole.end)
            is_proven = spans.covers(proven, known)
            assert (cell in (Cell.PROVEN, Cell.REPLAYED)) is is_proven
            if cell is Cell.GAP:
                assert _touches(gaps, known)
            if is_proven:
                assert (cell is Cell.REPLAYED) is _touches(replayed, known)
            if cell is Cell.REPLAYED_OPEN:
                assert spans.covers(replayed, known)
            if cell is Cell.OPEN:
                assert not _touches(gaps, known)


def _touches(found: Sequence[Span], one: Span) -> bool:
    return any(each.start < one.end and one.start < each.end for each in found)


def test_it_is_drawn_without_colour_in_eighty_columns_with_dates_and_a_legend() -> None:
    timeline = Timeline(
        [span(60, 1500), span(1600, 2000)], [span(1500, 1540)], [span(120, 240), span(1560, 1600)]
    )
    drawn = coverage_picture.days(timeline, span(0, 2880), now=MIDNIGHT + 2100 * MINUTE)
    assert list(coverage_picture.lines(drawn)) == [
        "      00       03       06       09       12       15       18       21",
        "2026",
        "11-20 ..." + "===" + "R" * 6 + "=" * 60,
        "11-21 ===GGorr" + "=" * 20 + "ooooo",
    ]
    assert [line[0] for line in coverage_picture.legend(drawn)] == ["=", "o", "G", "R", "r", "."]
    assert max(map(len, [*coverage_picture.lines(drawn), *coverage_picture.legend(drawn)])) <= 80
    assert all(letter.isascii() for letter in LETTERS.values())


def test_days_that_are_all_alike_are_drawn_once() -> None:
    timeline = Timeline([span(0, 30 * 1440)], [], [])
    drawn = coverage_picture.days(timeline, span(0, 30 * 1440), now=MIDNIGHT + 30 * 1440 * MINUTE)
    lines = list(coverage_picture.lines(drawn))
    assert len(lines) == 5
    assert lines[3] == "  ...  as the days around it"
    assert lines[4].startswith("12-19 ===")


def test_a_year_is_written_where_it_begins() -> None:
    start = datetime(2026, 12, 31, tzinfo=platform_time.CHINA)
    drawn = coverage_picture.days(Timeline([], [], []), Span(start, start + timedelta(days=2)), now=start)
    assert [line for line in coverage_picture.lines(drawn) if len(line) == 4] == ["2026", "2027"]


@given(some_spans(), some_spans())
def test_joined_spans_hold_the_same_time_in_order_and_apart(some: list[Span], others: list[Span]) -> None:
    joined = coverage_picture.joined([*some, *others])
    for before, after in itertools.pairwise(joined):
        assert before.end < after.start
    for each in (*some, *others):
        assert spans.covers(joined, each)
    assert {end for each in joined for end in (each.start, each.end)} <= {
        end for each in (*some, *others) for end in (each.start, each.end)
    }
