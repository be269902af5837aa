"""The table of docs/platform/gateway.md 3.2: which way of paging loses orders when the list changes
meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import count

import pytest

from tests.simulator.platform_client import START, Client, after, frozen_clock, small, tids
from topsync.simulator.faults.answers import PagingMutation
from topsync.simulator.faults.channel import Visibility
from topsync.simulator.faults.effects import ListChange
from topsync.simulator.ids import OrderKey, tid_of
from topsync.simulator.server import Simulator
from topsync.simulator.wire import second_of

PAGE_SIZE = 10
SEEDS = range(1, 5)
CLOSED = after(START, -3600 * 23), after(START, 3600 - 1)
OPEN = after(START, -3600 * 22), after(START, 3600 * 2)
"""Both are read an hour after the start: CLOSED ends before that, OPEN does not."""


async def lost(
    seed: int, window: tuple[str, str], changes: Sequence[ListChange], *, backward: bool
) -> set[int]:
    """The orders that were in the window all the time and were on no page."""
    settings = small(seed=seed, sellers=1, orders=1500)
    async with Simulator(settings, frozen_clock()) as simulator, Client(simulator) as client:
        simulator.conductor.strike(Visibility(max_delay_seconds=86400))
        await client.order("create", count=40)
        await client.admin("DELETE", "/faults")
        simulator.clock.advance(timedelta(hours=1).total_seconds())
        book = simulator.world.books[0]

        def shown() -> set[int]:
            first, last = map(second_of, window)
            found = book.modified_between(first, last, simulator.clock.second())
            return {tid_of(OrderKey(0, number)) for _, number in found}

        before = shown()
        pages = -(-len(before) // PAGE_SIZE)
        assert pages >= 4
        simulator.conductor.strike(PagingMutation(changes=tuple(changes), count=4))
        read: set[int] = set()
        for number in range(pages, 0, -1) if backward else count(1):
            body = await client.increment(*window, page_no=str(number), page_size=str(PAGE_SIZE))
            if not tids(body):
                break
            read.update(tids(body))
            simulator.clock.advance(1)
        return before & shown() - read


@pytest.mark.parametrize(
    ("window", "changes", "backward", "loses"),
    [
        pytest.param(CLOSED, [ListChange.MODIFY], False, True, id="closed, leaving: forward loses"),
        pytest.param(CLOSED, [ListChange.MODIFY], True, False, id="closed, leaving: backward is safe"),
        pytest.param(OPEN, [ListChange.MODIFY, ListChange.CREATE], True, True, id="open: backward loses"),
        pytest.param(CLOSED, [ListChange.REVEAL], False, False, id="late: forward reads all but the late"),
        pytest.param(CLOSED, [ListChange.REVEAL], True, True, id="late: backward loses"),
        pytest.param(CLOSED, [ListChange.MODIFY, ListChange.REVEAL], False, True, id="both: forward loses"),
        pytest.param(CLOSED, [ListChange.MODIFY, ListChange.REVEAL], True, True, id="both: backward loses"),
    ],
)
async def test_the_simulator_loses_orders_as_the_reference_says(
    window: tuple[str, str], changes: list[ListChange], backward: bool, loses: bool
) -> None:
    found = [await lost(seed, window, changes, backward=backward) for seed in SEEDS]
    assert any(found) == loses
