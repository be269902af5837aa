"""Work is given up when it stands still, and never while it goes on, however long it takes."""

from __future__ import annotations

from topsync.base.stall_timer import StallTimer


def test_work_that_goes_on_is_never_given_up_however_long_it_takes() -> None:
    timer = StallTimer(within_seconds=10)
    assert not any(timer.is_stalled(1000 - step, at_seconds=9.0 * step) for step in range(1000))


def test_work_is_given_up_when_nothing_was_done_for_as_long_as_it_may_take() -> None:
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
