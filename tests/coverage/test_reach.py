"""Which part of a span can be pulled again (P5): for commands, for signals and for stored requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from schemas import platform_time
from topsync.coverage import reach
from topsync.model.span import Span
from topsync.platforms.port import ListRules

NOW = datetime(2025, 11, 20, 2, 0, 0, 500_000, tzinfo=UTC)
"""10:00 of the platform's day."""
OLDEST = datetime(2025, 8, 21, 16, tzinfo=UTC)
"""00:00 of the platform's day, ninety days ago."""
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
RULES = ListRules(longest=DAY, max_page_size=100, reaches_back=90 * DAY)
FOR_EVER = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("span", "objection"),
    [
        pytest.param(Span(NOW - HOUR, NOW), None, id="the last hour"),
        pytest.param(Span(OLDEST, NOW), None, id="all that the platform lists"),
        pytest.param(
            Span(OLDEST - SECOND, NOW),
            "the platform lists nothing that was modified before 2025-08-22 00:00:00 (GMT+8): name a start "
            "from then on, not 2025-08-21 23:59:59 (GMT+8)",
            id="a second more",
        ),
        pytest.param(Span(NOW - HOUR, NOW + 14 * HOUR), None, id="to the end of today"),
        pytest.param(
            Span(NOW - HOUR, NOW + DAY + SECOND),
            "the span ends at 2025-11-21 10:00:01 (GMT+8), which is still to come: it is now 2025-11-20 "
            "10:00:00 (GMT+8)",
            id="to after tomorrow",
        ),
        pytest.param(
            Span(NOW - HOUR, FOR_EVER),
            "the span ends at 9999-12-31T23:59:59.999999+00:00, which is still to come: it is now 2025-11-20 "
            "10:00:00 (GMT+8)",
            id="to the end of all time, which GMT+8 has left behind already",
        ),
    ],
)
def test_a_span_that_cannot_be_pulled_is_refused_with_the_nearest_possible_span(
    span: Span, objection: str | None
) -> None:
    assert reach.objection(span, RULES, now=NOW) == objection


def test_the_pulled_span_ends_now_at_the_latest_and_begins_where_the_platform_begins_to_list() -> None:
    now = platform_time.floor_to_second(NOW)
    whole = Span(datetime.min.replace(tzinfo=UTC), FOR_EVER)
    assert reach.pullable(whole, RULES, now=NOW) == Span(OLDEST, now + SECOND)
    assert reach.pullable(Span(now, FOR_EVER), RULES, now=NOW) == Span(now, now + SECOND), "its whole second"
    assert reach.pullable(Span(NOW - HOUR, NOW - SECOND), RULES, now=NOW) == Span(NOW - HOUR, NOW - SECOND)
    assert reach.pullable(Span(now + SECOND, FOR_EVER), RULES, now=NOW) is None
    assert reach.pullable(Span(OLDEST - DAY, OLDEST), RULES, now=NOW) is None


def test_a_span_is_not_refused_because_of_a_fraction_of_a_second() -> None:
    assert "which is still to come" in reach.nothing(Span(NOW + SECOND, FOR_EVER), RULES, now=NOW)
    assert "before 2025-08-22 00:00:00" in reach.nothing(Span(OLDEST - DAY, OLDEST), RULES, now=NOW)


def test_a_shortfall_names_both_ends() -> None:
    whole = Span(OLDEST - DAY, NOW + HOUR)
    assert reach.shortfall(whole, whole) is None
    assert reach.shortfall(whole, Span(OLDEST, NOW)) == (
        "the platform lists nothing that was modified before 2025-08-22 00:00:00 (GMT+8); the span ends "
        "ahead of when it was pulled, 2025-11-20 10:00:00 (GMT+8)"
    )


def test_the_least_number_of_list_calls_is_a_call_for_each_window() -> None:
    half_hours = timedelta(minutes=30)
    assert reach.fewest_list_calls(Span(NOW - 2 * DAY, NOW), window=half_hours) == 96
    assert reach.fewest_list_calls(Span(NOW - SECOND, NOW), window=half_hours) == 1
    assert reach.fewest_list_calls(Span(NOW - 2 * DAY, NOW), window=7 * HOUR) == 8, "each piece by itself"
