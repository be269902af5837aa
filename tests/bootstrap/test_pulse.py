"""Nothing stands still while the writers store anything of any bulk start."""

from __future__ import annotations

from bootstrap.pulse import Pulse


def test_a_slice_that_waits_behind_others_is_not_standing_still() -> None:
    pulse = Pulse()
    assert pulse.still_seconds(since=10, at_seconds=40) == 30
    pulse.beat(at_seconds=35)
    assert pulse.still_seconds(since=10, at_seconds=40) == 5
    assert pulse.still_seconds(since=38, at_seconds=40) == 2, "it has only begun to wait"
    pulse.beat(at_seconds=20)
    assert pulse.still_seconds(since=10, at_seconds=40) == 5, "a look that took long says nothing new"
