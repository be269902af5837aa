"""Every metric that a page names exists."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.support import pages
from topsync.base import metrics

NAMED: Final = re.compile(r"`(topsync_[a-z_]+)(?:\{[^`]*\})?`")
OTHERS: Final = {"topsync_reader"}
"""Names of other things: a role of the database."""


@pytest.mark.parametrize("page", [page for page in pages.all_pages() if page != "CHANGELOG.md"])
def test_every_metric_that_a_page_names_exists(page: str) -> None:
    known = set(metrics.entered()) | OTHERS
    assert [name for name in NAMED.findall(pages.read(page)) if name not in known] == []
