"""Work is given up when it makes no progress, and never while it makes some, however long it takes."""

from __future__ import annotations

from topsync.base.stall_timer import StallTimer


def test_work_that_makes_progress_is_never_given_up_however_long_it_takes() -> None:
    timer = StallTimer(within_seconds=10)
    assert not any(timer.is_stalled(1000 - step, at_seconds=9.0 * step) for step in range(1000))


def test_work_is_given_up_when_it_made_no_progress_for_the_allowed_time() -> None:
    timer = StallTimer(within_seconds=10)
    assert not timer.is_stalled(7, at_seconds=100)
    assert not timer.is_stalled(7, at_seconds=109.9)
    assert timer.is_stalled(7, at_seconds=110)


def test_each_step_begins_the_wait_anew() -> None:
    timer = StallTimer(within_seconds=10)
    assert not timer.is_stalled(7, at_seconds=100)
    assert not timer.is_stalled(6, at_seconds=109)
    assert not timer.is_stalled(6, at_seconds=118)
    assert timer.is_stalled(6, at_seconds=119)


def test_work_that_grows_has_taken_no_step() -> None:
    timer = StallTimer(within_seconds=10)
    assert not timer.is_stalled(7, at_seconds=100)
    assert not timer.is_stalled(9, at_seconds=105)
    assert not timer.is_stalled(8, at_seconds=109)
    assert timer.is_stalled(7, at_seconds=110), "as few as before are no step either"
