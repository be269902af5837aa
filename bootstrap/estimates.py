"""What a bulk start will cost: calls, minutes and room, before it begins. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from topsync.model.slice import Slice, Way

PAGE_SIZE: Final = 100
"""Objects on a page of a list."""

PAGES_OF_A_DAY: Final = 2
"""Calls for a day that is listed, besides its pages: its count before and after."""

TASK_MINUTES: Final = 60
"""The platform runs a task within half an hour and ends it within another (docs/platform/gateway.md 4.1),
outside 23:00 to 01:00."""

PARTS_PER_ORDER: Final = 0.1
"""How many refunds an order is taken to have, where nobody has counted."""

FILE_BYTES_PER_ORDER: Final = 700
"""Size of a packed order in an export, as the simulator's are."""

ROWS_PER_SECOND: Final = 1000
"""How quickly one enricher is taken to store what is exported; `make bench ARGS=bulk` measures it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a bulk start, or of several."""

    calls: int
    """Calls to the platform: for tasks, lists, and objects that are fetched by their ids."""
    calling_minutes: float
    """By the call budget."""
    waiting_minutes: float
    """By the platform's schedule."""
    storing_minutes: float
    """With one enricher."""
    files: Sequence[int]
    """Sizes in bytes of the largest files, as many as may lie in the work folder at the same time."""

    @property
    def minutes(self) -> float:
        """How long it takes: calls are made while the platform and the enricher work."""
        return max(self.calling_minutes, self.waiting_minutes + self.storing_minutes)

    @property
    def file_bytes(self) -> int:
        """Room for the files that lie in the work folder at the same time."""
        return sum(self.files)


def estimate(
    slices: Collection[Slice],
    *,
    orders: int | None,
    calls_per_second: float,
    poll_seconds: float,
    files_at_once: int,
) -> Estimate:
    """What these slices will cost; `orders` where somebody has counted them."""
    exported = [each for each in slices if each.way is Way.EXPORT]
    listed = [each for each in slices if each.way is Way.LIST]
    polls = round(TASK_MINUTES * 60 / poll_seconds)
    # Each task: asked for, polled, asked for its URL once more.
    calls = len(exported) * (polls + 2)
    calls += sum(_counting_calls(each.days) for each in exported if not each.kind.leads)
    calls += sum(_list_calls(each, orders, slices) for each in listed)
    rows = sum(_objects(each, orders, slices) for each in exported)
    sizes = sorted((_objects(each, orders, slices) * FILE_BYTES_PER_ORDER for each in exported), reverse=True)
    return Estimate(
        calls=calls,
        calling_minutes=calls / calls_per_second / 60,
        waiting_minutes=TASK_MINUTES if exported else 0,
        storing_minutes=rows / ROWS_PER_SECOND / 60,
        files=sizes[:files_at_once],
    )


def _counting_calls(days: int) -> int:
    """All days at once, and both halves on the way to a single day that differs."""
    return 1 + 2 * math.ceil(math.log2(days))


def _list_calls(of: Slice, orders: int | None, all_of: Collection[Slice]) -> int:
    """Pages, and a call for each object: nothing of it is there yet."""
    objects = _objects(of, orders, all_of)
    return of.days * PAGES_OF_A_DAY + objects // PAGE_SIZE + objects


def _objects(of: Slice, orders: int | None, all_of: Collection[Slice]) -> int:
    if of.expected is not None:
        return of.expected
    if orders is None:
        return 0
    days = sum(each.days for each in all_of if each.kind is of.kind)
    per_order = 1.0 if of.kind.leads else PARTS_PER_ORDER
    return round(orders * per_order * of.days / days)


def total(estimates: Sequence[Estimate], *, files_at_once: int) -> Estimate:
    """Of several sellers that share the budget, the enricher and the folder, and wait side by side."""
    sizes = sorted((size for each in estimates for size in each.files), reverse=True)
    return Estimate(
        calls=sum(each.calls for each in estimates),
        calling_minutes=sum(each.calling_minutes for each in estimates),
        waiting_minutes=max((each.waiting_minutes for each in estimates), default=0),
        storing_minutes=sum(each.storing_minutes for each in estimates),
        files=sizes[:files_at_once],
    )
