"""How much of an export is loaded at once, which lines are believed, and how they are counted."""

from __future__ import annotations

import pytest

from bootstrap import loading
from tests.store.databases import at
from topsync.model.slice import LoadCounts
from topsync.platforms.export_port import ExportedObject, ExportLine, RefusedLine, ToRepair


def test_an_order_with_a_modified_in_the_future_is_asked_for_by_its_id() -> None:
    """From `snapshots` it might be read after that time, and hide earlier changes."""
    line, refused = ExportedObject(7, 7, at(1), at(9), None, b"{}", None), RefusedLine(b"x", "no tid")
    assert loading.believed(line, latest_now=at(8)) == ToRepair(7, 7)
    assert loading.believed(line, latest_now=at(9)) is line
    assert loading.believed(refused, latest_now=at(8)) is refused


def test_lines_are_counted_by_where_they_go() -> None:
    lines: list[ExportLine] = [
        ExportedObject(7, 7, None, at(9), None, b"{}", None),
        ToRepair(8, 8),
        ToRepair(9, 9),
        RefusedLine(b"x", "no tid"),
    ]
    counts = loading.counted(LoadCounts(10, 5, 3, 2), lines)
    assert counts == LoadCounts(lines=14, published=6, repaired=5, refused=3)
    assert counts.comes_out


def test_a_load_has_a_bound_in_lines_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile file has long lines: a bound on their number alone would allow gigabytes."""
    monkeypatch.setattr(loading, "BYTES_AT_ONCE", 1000)
    monkeypatch.setattr(loading, "LINES_AT_ONCE", 5)
    lines = iter([RefusedLine(b"x" * size, "why") for size in (600, 600, 600, 1, 1, 1, 1, 1, 1)])
    taken = []
    while some := loading._take(lines):
        taken.append(len(some))
    assert taken == [2, 5, 2]
