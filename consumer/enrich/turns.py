"""Turns: what is about the same order is judged in sequence, although batches are read at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection


class Turns:
    """Which orders of a partition are in batches that are read but not stored yet.

    What a hint needs is judged by what is stored. If two batches with the same order were judged at once, the
    second would fetch what the first has fetched, and could not distinguish an old state from a new state.
    Records that name no order wait for each other, as if they named the same order.
    """

    def __init__(self, waits: Callable[[], None] = lambda: None) -> None:
        """`waits` is called whenever somebody begins to wait for a turn."""
        self._last: dict[int | None, asyncio.Future[None]] = {}
        self._waits = waits
        self._waiting = 0

    @property
    def somebody_waits(self) -> bool:
        """Whether a batch waits until another is stored."""
        return self._waiting > 0

    def are_taken(self, tid: int | None) -> bool:
        """Whether somebody who asks for a turn of this order now will wait."""
        return tid in self._last

    async def take(self, tids: Collection[int | None], stored: asyncio.Future[None]) -> None:
        """Wait until every earlier batch with any of these orders is stored.

        Batches must ask in the order of their offsets. `stored` is done when the asking batch is.
        """
        earlier = {last for tid in tids if (last := self._last.get(tid)) is not None}
        self._last.update(dict.fromkeys(tids, stored))
        stored.add_done_callback(lambda _: self._forget(tids, stored))
        if not earlier:
            return
        self._waiting += 1
        self._waits()
        try:
            await asyncio.wait(earlier)
        finally:
            self._waiting -= 1

    def _forget(self, tids: Collection[int | None], stored: asyncio.Future[None]) -> None:
        for tid in tids:
            if self._last.get(tid) is stored:
                del self._last[tid]
