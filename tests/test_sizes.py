"""The figures of growth in operations.md are those that were measured."""

from __future__ import annotations

import re
from typing import Final

from tests.support.places import DOCS

MEASURED: Final = re.compile(
    r"^\| `(\w+)` \| ([\d,]*) \| [^|]* \| ([\d,]+) \| ([\d,]+) \| ([\d,.]+) \|$", re.MULTILINE
)
SHOWN: Final = re.compile(r"^\| `(\w+)` \| ([\d,]*) ?\| ([\d,]+) \| ([\d,]+) \| ([\d,.]+) \|$", re.MULTILINE)


def test_the_page_for_operators_shows_what_was_measured() -> None:
    """`make bench ARGS="sizes --write"` measures; the page rounds the last column."""
    page = (DOCS / "benchmarks.md").read_text("utf-8")
    section = page.partition("<!-- sizes: begin -->")[2].partition("<!-- sizes: end -->")[0]
    measured = {row[0]: row[1:] for row in MEASURED.findall(section)}
    for language in ("operations.md", "zh/operations.md"):
        shown = {row[0]: row[1:] for row in SHOWN.findall((DOCS / language).read_text("utf-8"))}
        assert len(shown) == 6
        for table, (*exact, gib) in shown.items():
            assert exact == list(measured[table][:3]), table
            assert abs(float(measured[table][3]) - float(gib)) <= max(0.05, float(gib) / 100), table
