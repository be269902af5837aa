"""How detail tasks are requested."""

from __future__ import annotations

from topsync.platforms.taobao import detail_tasks


def test_no_request_repeats_a_failed_request() -> None:
    """An identical request is answered with the failed task (docs/platform/gateway.md 4.2)."""
    assert [detail_tasks.request_order([1, 2, 3], failures) for failures in (0, 1)] == [[1, 2, 3], [2, 3, 1]]
