"""Together: calls that come while another call is under way become a single call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Batcher(Generic[Item, Outcome]):
    """Makes a single call for all callers who come while the call before is under way.

    It is meant for statements: another statement costs client and server many times as much as another row in
    a statement. Whoever comes first is answered first, and at once if nobody else is waiting. A cancelled
    caller stops waiting, and is left out of a call that has not begun.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | Exception]]],
        *,
        weigh: Callable[[Item], int],
        at_most: int,
    ) -> None:
        """`call` returns an outcome for each item, in order; an exception is the outcome of its item alone.

        Items are taken up to a total weight of `at_most`; a heavier item goes alone.
        """
        self._call = call
        self._weigh = weigh
        self._at_most = at_most
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._calling: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Outcome:
        """The outcome of an item. Raises the exception that is its outcome, or that the call raised."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, outcome))
        if self._calling is None:
            self._calling = asyncio.create_task(self._call_all())
        return await outcome

    async def _call_all(self) -> None:
        try:
            while taken := self._take():
                await self._call_for(taken)
        finally:
            self._calling = None
            # The process ends: nobody will answer these.
            for _, outcome in self._waiting:
                outcome.cancel()
            self._waiting.clear()

    def _take(self) -> Sequence[tuple[Item, asyncio.Future[Outcome]]]:
        # Cancelled callers are left out: somebody else may already be asking for the same, e.g. the next
        # owner of a partition.
        self._waiting = [entry for entry in self._waiting if not entry[1].done()]
        weight, count = 0, 0
        for item, _ in self._waiting:
            weight += self._weigh(item)
            if count and weight > self._at_most:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def _call_for(self, taken: Sequence[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        outcomes: Sequence[Outcome | Exception]
        try:
            outcomes = await self._call([item for item, _ in taken])
        except Exception as error:  # noqa: BLE001 -- all who wait get it
            outcomes = [error] * len(taken)
        except BaseException:
            for _, waiting in taken:
                waiting.cancel()
            raise
        for (_, waiting), outcome in zip(taken, outcomes, strict=True):
            if waiting.done():  # the caller was cancelled
                continue
            if isinstance(outcome, Exception):
                waiting.set_exception(outcome)
            else:
                waiting.set_result(outcome)
