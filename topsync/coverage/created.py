"""What was created in a span, by the platform's list: every order of it, or how many there are.

`topsync.coverage.created_listing` knows how pages make a complete list.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pydantic import SecretStr

from schemas import platform_time
from topsync.base.clock import ServerClock
from topsync.base.errors import first_of
from topsync.base.settings import CoverageSettings
from topsync.coverage import created_listing
from topsync.coverage.created_listing import DatedPage
from topsync.coverage.listing import PageRequest
from topsync.coverage.lists import ListRefusedError
from topsync.model.priority import Priority
from topsync.model.span import Span
from topsync.platforms.created_port import CreatedAnswer, CreatedLists, CreatedOrder, CreatedPage
from topsync.platforms.port import Refused, WindowTooWide

MAX_ORDERS_AT_ONCE = 200_000
"""Orders that `CreatedLister.list_parts` holds in memory: some 60 MB."""


@dataclass(frozen=True, slots=True)
class CreatedListing:
    """Every order that was created in a span."""

    span: Span
    """Closed, in whole seconds."""
    orders: Mapping[int, CreatedOrder]
    """By id. All that were in the list at `asked_at` and stayed in it until it was read."""
    asked_at: datetime
    """Server time, not later than the platform's first answer."""
    calls: int
    """How many calls it took."""

    @property
    def counted(self) -> int:
        """How many the platform lists. Where its total differed, orders came or went meanwhile."""
        return len(self.orders)


@dataclass(frozen=True, slots=True)
class CreatedCount:
    """How many orders the platform says were created in a span."""

    total: int
    counted_at: datetime
    """Server time, not later than the answer."""


@dataclass(frozen=True, slots=True)
class NotCounted:
    """The platform does not say how many."""

    reason: str
    """For people; holds no values."""


def day_span(day: date) -> Span:
    """A day of the platform, as a closed span of whole seconds."""
    return Span(
        platform_time.start_of(day),
        platform_time.start_of(day + timedelta(days=1)) - platform_time.RESOLUTION,
    )


@dataclass(frozen=True, slots=True)
class CreatedLister:
    """Brings the pages that a list by creation asks for. Only reads: anything may be asked for again.

    Where the platform wants a rest, the wait is made here.
    """

    clock: ServerClock
    lists: CreatedLists
    settings: CoverageSettings

    async def list_parts(
        self, session: SecretStr, span: Span, *, priority: Priority
    ) -> AsyncIterator[CreatedListing]:
        """Every order that was created in a closed span of whole seconds, such as a day (`day_span`).

        In parts of a bounded number of orders, the oldest first; mostly it is a single part. The parts join:
        each begins in the second after the end of the part before.

        Raises:
            ListingFailedError, ListRefusedError: nothing of the part may be claimed.
            PlatformError, CallLimitedError: see `topsync.platforms.created_port.CreatedLists`.
        """
        pending = [span]
        while pending:
            part = pending.pop()
            middle = platform_time.floor_to_second(part.start + (part.end - part.start) / 2)
            halves = [Span(part.start, middle), Span(middle + platform_time.RESOLUTION, part.end)]
            can_halve = all(half.start <= half.end for half in halves)
            found = await self._drive(session, part, MAX_ORDERS_AT_ONCE if can_halve else None, priority)
            if found is None:
                pending.extend(reversed(halves))
            else:
                yield found

    async def count(self, session: SecretStr, span: Span, *, priority: Priority) -> CreatedCount | NotCounted:
        """How many orders were created in a closed span of whole seconds. One call.

        It is not documented whether the end is included: orders of the last second may be missing.

        Raises:
            PlatformError, CallLimitedError: see `topsync.platforms.created_port.CreatedLists`.
        """
        asked_at = self.clock.now()
        match await self._ask(session, PageRequest(span, 1, 1, counting=True), priority):
            case CreatedPage(total=int(total)):
                return CreatedCount(total, asked_at)
            case CreatedPage():
                return NotCounted("the answer has no total")
            case WindowTooWide():
                return NotCounted("the platform finds the span too wide to be counted")
            case Refused(detail):
                return NotCounted(detail)

    async def count_days(
        self, session: SecretStr, first_day: date, last_day: date, *, priority: Priority, at_once: int
    ) -> dict[date, int | None]:
        """How many orders were created on each day, by a call for each, `at_once` at a time.

        None where the platform does not say. After the first such day it is not asked about those that
        follow: what it refuses or cannot do for one day, it will for none.

        Raises: as `count`.
        """
        days = [first_day + timedelta(days=number) for number in range((last_day - first_day).days + 1)]
        counts: dict[date, int | None] = dict.fromkeys(days)
        waiting = list(reversed(days))

        async def work() -> None:
            while waiting:
                day = waiting.pop()
                found = await self.count(session, day_span(day), priority=priority)
                if isinstance(found, NotCounted):
                    waiting.clear()
                else:
                    counts[day] = found.total

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(at_once):
                    tasks.create_task(work())
        except ExceptionGroup as group:
            raise first_of(group) from None
        return counts

    async def _drive(
        self, session: SecretStr, span: Span, most: int | None, priority: Priority
    ) -> CreatedListing | None:
        rules = self.lists.rules()
        steps = created_listing.list_created(
            span,
            page_size=min(self.settings.page_size, rules.max_page_size),
            longest=rules.longest,
            most=most,
        )
        asked_at, calls = self.clock.now(), 0
        try:
            wish = next(steps)
            while True:
                page = await self._page(session, wish, priority)
                calls += 1
                wish = steps.send(page)
        except StopIteration as end:
            orders: Mapping[int, CreatedOrder] | None = end.value
            return None if orders is None else CreatedListing(span, orders, asked_at, calls)

    async def _page(self, session: SecretStr, wish: PageRequest, priority: Priority) -> DatedPage:
        asked_at = self.clock.now()
        match await self._ask(session, wish, priority):
            case CreatedPage() as page:
                return DatedPage(asked_at, page)
            case WindowTooWide():
                return DatedPage(asked_at, None)
            case Refused(detail, whole_kind):
                raise ListRefusedError(detail, whole_kind=whole_kind)

    async def _ask(self, session: SecretStr, wish: PageRequest, priority: Priority) -> CreatedAnswer:
        answer = await self.lists.created_page(
            session,
            wish.span,
            page_no=wish.page_no,
            page_size=wish.page_size,
            counting=wish.counting,
            priority=priority,
        )
        if isinstance(answer, WindowTooWide) and answer.needs_rest:
            await asyncio.sleep(self.settings.too_wide_wait_seconds)
        return answer
