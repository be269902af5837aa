"""The bulk start's own decisions."""

from __future__ import annotations

import pytest

from bootstrap import job
from tests.store.databases import at
from topsync.platforms.export_port import ExportedOrder, RefusedLine, ToRepair


def test_a_line_that_lies_ahead_of_time_is_asked_for_by_its_id() -> None:
    """In `snapshots` it might be read when that time has come, and hide what changed before."""
    line, refused = ExportedOrder(7, at(9), b"{}"), RefusedLine(b"x", "no tid")
    assert job.believed(line, latest_now=at(8)) == ToRepair(7)
    assert job.believed(line, latest_now=at(9)) is line
    assert job.believed(refused, latest_now=at(8)) is refused


def test_what_is_loaded_at_once_is_bounded_in_lines_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of a hostile file are long: by their number alone they would take gigabytes."""
    monkeypatch.setattr(job, "BYTES_AT_ONCE", 1000)
    monkeypatch.setattr(job, "LINES_AT_ONCE", 5)
    lines = iter([RefusedLine(b"x" * size, "why") for size in (600, 600, 600, 1, 1, 1, 1, 1, 1)])
    taken = []
    while some := job._take(lines):
        taken.append(len(some))
    assert taken == [2, 5, 2]
