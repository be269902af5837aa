"""How tasks of details are asked for."""

from __future__ import annotations

from topsync.platforms.taobao import detail_tasks


def test_no_request_repeats_one_that_failed() -> None:
    """An identical one is answered with the task that failed (docs/platform/gateway.md 4.2)."""
    assert [detail_tasks.request_order([1, 2, 3], failures) for failures in (0, 1)] == [[1, 2, 3], [2, 3, 1]]
