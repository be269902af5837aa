"""Around the opening of a sale lists are late: a pull then claims less, and begins earlier."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.model import visibility
from topsync.model.visibility import Allowances, ListAllowances, Peak

BASE = datetime(2025, 11, 11, 11, 30, tzinfo=UTC)
USUAL, LATE = 600, 1800
PEAK_SECONDS = 9000


def at(second: float) -> datetime:
    return BASE + timedelta(seconds=second)


def both(seconds: float) -> Allowances:
    return Allowances(timedelta(seconds=seconds), timedelta(seconds=seconds))


SALE = ListAllowances(both(USUAL), both(LATE), (Peak(at(0), at(PEAK_SECONDS)),))


@pytest.mark.parametrize(
    ("asked", "allowance"),
    [
        pytest.param(-1, USUAL, id="before the sale"),
        pytest.param(0, LATE, id="as soon as it opens"),
        pytest.param(PEAK_SECONDS, LATE, id="just after it: its last orders may not be visible yet"),
        pytest.param(PEAK_SECONDS + LATE - 1, LATE, id="until its own allowance has passed"),
        pytest.param(PEAK_SECONDS + LATE, USUAL, id="and then as usual"),
    ],
)
def test_a_list_that_is_read_at_a_peak_proves_less(asked: float, allowance: float) -> None:
    assert SALE.visibility_allowance(at(asked)) == timedelta(seconds=allowance)


@given(changed=st.integers(0, PEAK_SECONDS - 1), read=st.integers(0, PEAK_SECONDS + 4 * LATE))
def test_nothing_of_a_peak_is_proven_before_its_own_allowance_has_passed(changed: int, read: int) -> None:
    is_proven = at(changed) < at(read) - SALE.visibility_allowance(at(read))
    assert not is_proven or read - changed >= LATE


@pytest.mark.parametrize(
    ("start", "now", "overlap"),
    [
        pytest.param(-900, -1, USUAL, id="before the sale"),
        pytest.param(-900, 0, LATE, id="a pull that ends in it"),
        pytest.param(PEAK_SECONDS + LATE - 1, PEAK_SECONDS + 3 * LATE, LATE, id="a pull that begins in it"),
        pytest.param(PEAK_SECONDS + LATE, PEAK_SECONDS + 3 * LATE, USUAL, id="a pull that begins later"),
    ],
)
def test_a_pull_that_touches_a_peak_begins_earlier(start: float, now: float, overlap: float) -> None:
    assert SALE.overlap(at(start), now=at(now)) == timedelta(seconds=overlap)


def test_peaks_are_written_in_the_platforms_own_time() -> None:
    text = "2025-11-11 19:30:00/2025-11-11 22:00:00, 2025-06-18 19:30:00 / 2025-06-18 22:00:00,"
    first, second = visibility.parse_peaks(text)
    assert first == Peak(at(0), at(PEAK_SECONDS))
    assert second.start.month == 6
    assert visibility.parse_peaks("") == ()


@pytest.mark.parametrize(
    "text", ["2025-11-11", "2025-11-11 19:30:00", "a/b", "2025-11-11 19:30:00/2025-11-11 19:30:00"]
)
def test_an_impossible_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"peak|entry"):
        visibility.parse_peaks(text)
