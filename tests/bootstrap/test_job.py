"""The bulk start's own decisions."""

from __future__ import annotations

import pytest

from bootstrap import job
from tests.store.databases import at
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS
from topsync.platforms.taobao.export_file import ExportedTrade, RefusedLine, ToRepair


def test_after_a_failed_export_the_same_fields_are_asked_for_in_words_that_no_task_had() -> None:
    """The platform answers an identical request with the task that failed (docs/platform/gateway.md 4.2)."""
    asked = [tuple(job.fields_after(failed)) for failed in range(len(FULLINFO_FIELDS))]
    assert len(set(asked)) == len(asked)
    assert {frozenset(fields) for fields in asked} == {frozenset(FULLINFO_FIELDS)}
    assert asked[0] == FULLINFO_FIELDS


def test_a_line_that_lies_ahead_of_time_is_asked_for_by_its_id() -> None:
    """In `snapshots` it might be read when that time has come, and hide what changed before."""
    line, refused = ExportedTrade(7, at(9), b"{}"), RefusedLine(b"x", "no tid")
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
