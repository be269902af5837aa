"""Around the opening of a sale other rules hold: a pull then claims less, and begins earlier."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.calendars import calendar_of, late_lists
from tests.support.places import ROOT
from topsync.model import calendar_text
from topsync.model.calendar import RuleChanges, Sale
from topsync.model.calendar_text import CalendarError

BASE = datetime(2025, 11, 11, 11, 30, tzinfo=UTC)
USUAL, LATE, LATER = 600, 1800, 3600
SALE_SECONDS = 9000
EXAMPLE = (ROOT / "deploy/calendar.toml").read_text("utf-8")


def at(second: float) -> datetime:
    return BASE + timedelta(seconds=second)


def sale(start: float, end: float, changes: RuleChanges, name: str = "sale") -> Sale:
    return Sale(name, at(start), at(end), changes)


SALE = calendar_of(None, sale(0, SALE_SECONDS, late_lists(LATE)))


@pytest.mark.parametrize(
    ("asked", "allowance"),
    [
        pytest.param(-1, USUAL, id="before the sale"),
        pytest.param(0, LATE, id="as soon as it opens"),
        pytest.param(SALE_SECONDS, LATE, id="just after it: its last orders may not be visible yet"),
        pytest.param(SALE_SECONDS + LATE - 1, LATE, id="until its own allowance has passed"),
        pytest.param(SALE_SECONDS + LATE, USUAL, id="and then as usual"),
    ],
)
def test_a_list_that_is_read_at_a_sale_proves_less(asked: float, allowance: float) -> None:
    assert SALE.visibility_allowance(at(asked)) == timedelta(seconds=allowance)
    assert SALE.at(at(asked)).visibility == timedelta(seconds=allowance)


@given(
    sales=st.lists(
        st.tuples(st.integers(0, 9000), st.integers(1, 9000), st.sampled_from([0, 60, LATE, LATER])),
        max_size=5,
    ),
    changed=st.integers(0, 20_000),
    read=st.integers(0, 30_000),
)
def test_nothing_of_a_sale_is_proven_before_its_own_allowance_has_passed(
    sales: list[tuple[int, int, int]], changed: int, read: int
) -> None:
    """However sales overlap, and even where one has a shorter allowance than usual."""
    calendar = calendar_of(
        None,
        *sorted(
            (sale(start, start + for_, late_lists(late)) for start, for_, late in sales),
            key=lambda s: s.start,
        ),
    )
    if at(changed) < at(read) - calendar.visibility_allowance(at(read)):
        owed = [late for start, for_, late in sales if start <= changed < start + for_]
        assert read - changed >= max([USUAL, *owed])


@pytest.mark.parametrize(
    ("start", "now", "overlap"),
    [
        pytest.param(-900, -1, USUAL, id="before the sale"),
        pytest.param(-900, 0, LATE, id="a pull that ends in it"),
        pytest.param(SALE_SECONDS + LATE - 1, SALE_SECONDS + 3 * LATE, LATE, id="a pull that begins in it"),
        pytest.param(SALE_SECONDS + LATE, SALE_SECONDS + 3 * LATE, USUAL, id="a pull that begins later"),
    ],
)
def test_a_pull_that_touches_a_sale_begins_earlier(start: float, now: float, overlap: float) -> None:
    assert SALE.overlap(at(start), now=at(now)) == timedelta(seconds=overlap)


def test_of_the_settings_the_calendars_and_the_learned_allowance_the_longest_holds() -> None:
    usual = SALE.usual.visibility
    for learned, on_sale, usually in (
        (timedelta(0), timedelta(seconds=LATE), usual),
        (usual * 1.5, max(timedelta(seconds=LATE), usual * 1.5), usual * 1.5),
        (timedelta(days=1), timedelta(days=1), timedelta(days=1)),
    ):
        calendar = replace(SALE, learned=learned)
        assert calendar.visibility_allowance(at(0)) == on_sale
        assert calendar.visibility_allowance(at(-1e6)) == usually


def test_of_sales_that_overlap_the_last_to_begin_decides_and_the_longest_allowance_holds() -> None:
    whole = RuleChanges(
        visibility=timedelta(seconds=LATER),
        sweep_interval=timedelta(seconds=60),
        calls_per_second=10,
        api_limits={"a.b": 3},
        circuit_share=0.1,
    )
    opening = RuleChanges(
        visibility=timedelta(seconds=LATE),
        failure_wait=timedelta(seconds=60),
        api_limits={"c.d": 2},
        circuit_share=0.2,
        circuit_least_calls=500,
    )
    calendar = calendar_of(None, sale(0, 9000, whole, "whole"), sale(100, 200, opening, "opening"))
    rules = calendar.at(at(150))
    assert rules.sales == ("whole", "opening")
    assert rules.visibility == timedelta(seconds=LATER)
    assert (rules.sweep_interval, rules.failure_wait) == (timedelta(seconds=60), timedelta(seconds=60))
    assert rules.limits.calls_per_second == 10
    assert rules.limits.api_calls_per_second == {"a.b": 3, "c.d": 2}
    assert (rules.circuit.opens_above, rules.circuit.least_calls) == (0.2, 500)
    assert calendar.at(at(9000)) != calendar.usual, "its allowance goes on"
    assert calendar.at(at(9000 + LATER)) == calendar.usual
    assert calendar.next_sale(at(50)) == calendar.sales[1]
    assert calendar.next_sale(at(100)) is None


def test_the_example_can_be_read_and_is_in_the_platforms_own_time() -> None:
    calendar = calendar_text.parse(EXAMPLE, calendar_of().usual)
    assert [each.name for each in calendar.sales[:2]] == ["6.18 opening", "6.18"]
    opening = datetime(2026, 11, 10, 11, 30, tzinfo=UTC)
    assert calendar.at(opening - timedelta(seconds=1)) == calendar.usual
    rules = calendar.at(opening)
    assert set(rules.sales) == {"11.11 opening", "11.11"}
    assert rules.visibility == timedelta(minutes=30)
    assert rules.failure_wait == timedelta(minutes=1)


def test_an_empty_calendar_is_an_ordinary_day() -> None:
    calendar = calendar_text.parse("", calendar_of().usual)
    assert calendar == calendar_of()
    assert calendar.at(BASE) == calendar.usual


DATE = '[[dates]]\nsale = "x"\nrules = "r"\nstart = 2026-11-11 00:00:00\nend = 2026-11-12 00:00:00\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[rules.r]\noverlap_seconds = = 1\n", "no TOML: .*line 2"),
        ("\n[rule.r]\n", "^line 2, rule: unknown"),
        (
            "[rules.a]\n[rules.r]\n\noverlap = 1",
            "^line 4, rules.r.overlap: unknown; there are .*overlap_seconds",
        ),
        ("[rules.r]\ncircuit_share = 5.0", "^line 2, rules.r.circuit_share: must be above 0 and at most 1"),
        ("[rules.r]\ncircuit_share = nan", "^line 2, rules.r.circuit_share"),
        (
            "[rules.r]\ncircuit_least_calls = 1.5",
            "^line 2, rules.r.circuit_least_calls: must be a whole number",
        ),
        ("[rules.r]\noverlap_seconds = true", "^line 2, rules.r.overlap_seconds: must be a number"),
        ("[rules.r]\nsweep_interval_seconds = -1", "^line 2, .*: must be at least 0"),
        ('[rules.r]\napi_limits = { "a.b" = 0 }', "^line 2, rules.r.api_limits.a.b: must be above 0"),
        ("[rules.r]\napi_limits = { ab = 1 }", "^line 2, rules.r.api_limits.ab: write the name"),
        ('[rules]\nr = "x"', "rules.r: must be a table"),
        ("dates = 3", "dates: must be written as"),
        (DATE, "^line 3, dates.rules: names no rules of this file; there are none"),
        (
            "[rules.r]\n" + DATE + DATE.replace("end = 2026-11-12", "end = 2026-11-11"),
            "^line 11, dates.end: must be after",
        ),
        (
            "[rules.r]\n" + DATE.replace("2026-11-11 00:00:00", '"2026-11-11"'),
            "^line 5, dates.start: must be a time",
        ),
        (
            "[rules.r]\n" + DATE.replace("start = 2026-11-11 00:00:00", "start = 2026-11-11T00:00:00Z"),
            "^line 5, dates.start",
        ),
        ("[rules.r]\n" + DATE.replace("end =", "ends ="), "^line 6, dates.ends: unknown"),
        ("[rules.r]\n" + DATE + "\n" + DATE.replace('sale = "x"\n', ""), "^line 8, dates.sale: missing"),
    ],
)
def test_a_wrong_calendar_is_refused_with_the_line_and_the_field(text: str, problem: str) -> None:
    with pytest.raises(CalendarError, match=problem):
        calendar_text.parse(text, calendar_of().usual)


@given(st.text(max_size=200) | st.text(alphabet='[]rules.dates="\n1 ', max_size=200))
def test_any_text_is_a_calendar_or_refused_in_one_line(text: str) -> None:
    problem = ""
    try:
        calendar_text.parse(text, calendar_of().usual)
    except CalendarError as error:
        problem = str(error)
    assert "\n" not in problem
