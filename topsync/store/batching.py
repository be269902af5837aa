"""Together: calls that come while another is under way become one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Together(Generic[Item, Outcome]):
    """Makes one call for everybody who asks while the one before is under way.

    For statements: each costs the client and the server many times what one more row in it does. Who asks
    first is answered first, and at once where nobody else asks. Whoever is cancelled stops waiting, and is
    left out of a call that has not begun.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | Exception]]],
        *,
        weigh: Callable[[Item], int],
        at_most: int,
    ) -> None:
        """`call` answers item by item, in order; an exception is the outcome of its item alone.

        Items are taken up to a weight of `at_most`; a heavier one goes alone.
        """
        self._call = call
        self._weigh = weigh
        self._at_most = at_most
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._calling: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Outcome:
        """The outcome of one item; raises what was its outcome, or what the call for it raised."""
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
            # Of a process that ends: nobody will answer these.
            for _, outcome in self._waiting:
                outcome.cancel()
            self._waiting.clear()

    def _take(self) -> Sequence[tuple[Item, asyncio.Future[Outcome]]]:
        # Nothing is done any more for who was cancelled: another may ask for the same already, e.g. the next
        # ownership of a partition.
        self._waiting = [one for one in self._waiting if not one[1].done()]
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
        except Exception as error:  # noqa: BLE001 -- it is for all who wait
            outcomes = [error] * len(taken)
        except BaseException:
            for _, waiting in taken:
                waiting.cancel()
            raise
        for (_, waiting), outcome in zip(taken, outcomes, strict=True):
            if waiting.done():  # whoever waited was cancelled
                continue
            if isinstance(outcome, Exception):
                waiting.set_exception(outcome)
            else:
                waiting.set_result(outcome)
