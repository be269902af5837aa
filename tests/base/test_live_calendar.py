"""A calendar that changes is in force without a restart, and a wrong file changes nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.calendars import calendar_of
from topsync.base import live_calendar
from topsync.base.live_calendar import LOOKED_AT_EVERY_SECONDS, MAX_BYTES, LiveCalendar
from topsync.base.settings import SettingsError

DAY = datetime(2026, 11, 11, tzinfo=UTC)
TEXT = """
[rules.sale]
visibility_allowance_seconds = {seconds}
[[dates]]
sale = "11.11"
rules = "sale"
start = 2026-11-11 00:00:00
end = 2026-11-12 00:00:00
"""


class Watched:
    """A calendar's file, and its reader with a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "calendar.toml"
        self.now = 0.0
        self.write(TEXT.format(seconds=1200))
        self.live = LiveCalendar(self.file, calendar_of().usual, clock=lambda: self.now)

    def write(self, text: str) -> None:
        """Replace the file at once, as an editor and a ConfigMap do."""
        new = self.file.with_suffix(".new")
        new.write_text(text, "utf-8")
        new.replace(self.file)

    def minutes(self) -> float:
        return self.live().at(DAY).visibility / timedelta(minutes=1)

    def later(self) -> None:
        self.now += LOOKED_AT_EVERY_SECONDS


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_changed_file_is_in_force_at_the_next_look_and_not_before(watched: Watched) -> None:
    assert watched.minutes() == 20
    watched.write(TEXT.format(seconds=2400))
    assert watched.minutes() == 20
    watched.later()
    assert watched.minutes() == 40


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TEXT.format(seconds=-1), "line 3, rules.sale.visibility_allowance_seconds"),
        ("[rules", "no TOML"),
        ("#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_wrong_new_file_keeps_the_old_calendar_and_complains_until_it_is_right(
    watched: Watched, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    watched.write(text)
    for _ in range(3):
        watched.later()
        assert watched.minutes() == 20
    assert watched.live.problem is not None
    assert problem in watched.live.problem
    watched.write(TEXT.format(seconds=3600))
    watched.later()
    assert watched.minutes() == 60
    assert watched.live.problem is None


def test_what_was_learnt_holds_beside_the_file_and_beside_its_next_version(watched: Watched) -> None:
    watched.live.learn(timedelta(minutes=30))
    assert watched.minutes() == 30
    watched.write(TEXT.format(seconds=2400))
    watched.later()
    assert watched.minutes() == 40
    watched.write(TEXT.format(seconds=1200))
    watched.later()
    assert watched.minutes() == 30
    watched.live.learn(timedelta(0))
    assert watched.minutes() == 20


def test_a_file_that_vanishes_or_may_not_be_read_keeps_the_old_calendar(watched: Watched) -> None:
    watched.file.unlink()
    watched.later()
    assert watched.minutes() == 20
    assert watched.live.problem == os.strerror(2)
    watched.write(TEXT.format(seconds=2400))
    watched.later()
    assert watched.minutes() == 40


def test_no_process_starts_with_a_wrong_calendar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "calendar.toml"
    monkeypatch.setenv("TOPSYNC_CALENDAR_FILE", str(file))
    with pytest.raises(SettingsError, match=r"TOPSYNC_CALENDAR_FILE: .*No such file"):
        live_calendar.configured()
    file.write_text("[rules.sale]\novrlap_seconds = 1\n", "utf-8")
    with pytest.raises(SettingsError, match=r"line 2, rules.sale.ovrlap_seconds: unknown"):
        live_calendar.configured()


def test_without_a_file_each_day_is_an_ordinary_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS", "77")
    assert live_calendar.configured()().at(DAY).visibility == timedelta(seconds=77)
