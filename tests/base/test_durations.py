"""A duration is written for people: in two units at most, and never shorter than it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import platform_time
from topsync.base import durations

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.2, "1 s"),
        (41, "41 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3599.5, "1 h"),
        (31062, "8 h 38 min"),
        (86399, "1 d"),
        (86400, "1 d"),
        (183600, "2 d 3 h"),
    ],
)
def test_a_duration_is_written_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert durations.text(seconds) == text


@given(seconds=st.floats(0, 1e7))
def test_a_written_duration_is_never_shorter_than_the_duration_and_not_much_longer(seconds: float) -> None:
    written = sum(
        int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+) (s|min|h|d)", durations.text(seconds))
    )
    assert seconds <= written <= seconds + max(1, seconds / 24 + 60)


def test_a_wait_names_the_moment_at_which_it_ends_in_the_platforms_zone() -> None:
    before = platform_time.floor_to_second(datetime.now(UTC))
    written = durations.until(31062)
    found = re.fullmatch(r"8 h 38 min, until (\S+ \S+) GMT\+8", written)
    assert found is not None
    assert timedelta(seconds=31062) <= platform_time.parse(found[1]) - before <= timedelta(seconds=31092)
