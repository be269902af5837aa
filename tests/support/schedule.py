"""Which worker runs which tests, and when: long tests begin first, so that all workers end together."""

from __future__ import annotations

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

LONGEST_FIRST = (
    "tests/system/calm/",
    "tests/system/test_scenarios.py",
    "tests/system/test_fleet.py",
    "tests/system/test_kills.py",
    "tests/system/",
    "tests/local/",
)
"""First the tests of a minute and more, then those that start servers or a system. Others take seconds."""

TOGETHER = ("tests/system/calm/",)
"""Folders whose tests share servers that take long to start."""


def begin_with_longest(items: list[pytest.Item]) -> None:
    """Put the tests of `LONGEST_FIRST` first; the others stay in their order."""
    items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    return next(
        (place for place, path in enumerate(LONGEST_FIRST) if nodeid.startswith(path)), len(LONGEST_FIRST)
    )


class Schedule(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A worker takes a file at a time, or one of the folders of `TOGETHER`. In the order of collection, given
    `--no-loadscope-reorder`; without it the files with the fewest tests, which are the longest, come last.
    """

    def _split_scope(self, nodeid: str) -> str:
        folder = next((folder for folder in TOGETHER if nodeid.startswith(folder)), None)
        return folder or nodeid.partition("::")[0]
