"""One seller's orders: the past, and over it all changes since the start.

Detail calls read the newest state. List calls read the newest state that is *visible* now: a change may
reach the lists later than it happened (docs/platform/gateway.md 7, point 3).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from topsync.simulator.amounts import Amounts, amounts_of
from topsync.simulator.drafts import Draft, draft_of, line_count
from topsync.simulator.history import RefundRow, SellerHistory
from topsync.simulator.ids import OrderKey
from topsync.simulator.journal import ReportChange, no_report
from topsync.simulator.life import REFUND_KINDS, EventKind, OrderEvent, OrderState, fold, modified_by
from topsync.simulator.sellers import SimulatedSeller

KEPT_ORDERS = 1000
"""Changed orders in the cache of each seller: clients ask for them at once, and they change again soon."""


@dataclass(slots=True)
class LiveOrder:
    """An order that has changed, or been created, since the start."""

    events: list[OrderEvent]
    past: int
    """How many events belong to the past; 0 for an order that was created since the start."""
    visible_at: list[int] = field(default_factory=list)
    """For each event since the start: when lists show it."""

    def visible(self, now: int) -> int:
        """How many events lists show; 0 while the order is not visible."""
        for position in range(len(self.visible_at), 0, -1):
            if self.visible_at[position - 1] <= now:
                return self.past + position
        return self.past


class CurrentOrder(NamedTuple):
    """An order as it is now. Several readers share it: do not change it."""

    draft: Draft
    state: OrderState
    amounts: Amounts


class Visible(NamedTuple):
    """An order as lists see it now."""

    number: int
    events: Sequence[OrderEvent]
    arrived: int
    """When this state reached the lists (`async_modified`)."""

    @property
    def modified(self) -> int:
        """When the order last changed, as lists show it."""
        return modified_by(self.events)


class OrderBook:
    """The orders of one seller, by number. Seconds are since the epoch."""

    def __init__(
        self, seed: int, seller: SimulatedSeller, history: SellerHistory, report: ReportChange = no_report
    ) -> None:
        self.seller = seller
        self.history = history
        self._seed = seed
        self._report = report
        self._live: dict[int, LiveOrder] = {}
        self._changed_at: list[int] = []
        self._changed: list[int] = []
        self._created: list[int] = []
        self._created_at: list[int] = []
        self.longest_delay = 0
        """The longest time so far from a change until lists show it."""
        self._next = history.count
        self._drafts = lru_cache(KEPT_ORDERS)(self._new_draft)
        self._current = lru_cache(KEPT_ORDERS)(self._new_current)

    @property
    def next_number(self) -> int:
        """The lowest number without an order."""
        return self._next

    def __contains__(self, number: int) -> bool:
        return 0 <= number < self.history.count or number in self._live

    def numbers(self) -> Iterator[int]:
        """Every order that exists now, in order of creation."""
        yield from range(self.history.count)
        yield from self._created.copy()

    def newest(self, limit: int) -> list[int]:
        """The orders that were created last, newest first, at most `limit`."""
        found = self._created[: -limit - 1 : -1]
        missing = limit - len(found)
        return found + list(range(self.history.count - 1, max(-1, self.history.count - 1 - missing), -1))

    def recently_changed(self, limit: int) -> list[int]:
        """The orders of the last `limit` changes, newest change first; an order may come twice."""
        return self._changed[: -limit - 1 : -1]

    def live(self) -> dict[int, list[OrderEvent]]:
        """The whole lives of the orders that have changed since the start: a copy."""
        return {number: order.events.copy() for number, order in self._live.items()}

    def events(self, number: int) -> Sequence[OrderEvent]:
        """Everything that has happened to an order.

        Raises:
            KeyError: there is no such order.
        """
        live = self._live.get(number)
        if live is not None:
            return live.events
        if not 0 <= number < self.history.count:
            raise KeyError(number)
        return self.history.events(number)

    def draft(self, number: int) -> Draft:
        """The order as it was placed."""
        is_past = number < self.history.count and number not in self._live
        return self._new_draft(number) if is_past else self._drafts(number)

    def _new_draft(self, number: int) -> Draft:
        return draft_of(self._seed, OrderKey(self.seller.index, number), self.history.plan(number))

    def state(self, draft: Draft, events: Sequence[OrderEvent]) -> OrderState:
        """The state that the events leave the order in."""
        return fold(draft.type, len(draft.lines), events)

    def current(self, number: int) -> CurrentOrder:
        """An order as it is now. Cached, because each change needs it for moves, messages and details.

        Raises:
            KeyError: there is no such order.
        """
        live = self._live.get(number)
        return self._new_current(number, 0) if live is None else self._current(number, len(live.events))

    def _new_current(self, number: int, _: int) -> CurrentOrder:
        """The number of events is part of the cache's key: it grows with each change."""
        draft = self.draft(number)
        state = self.state(draft, self.events(number))
        return CurrentOrder(draft, state, amounts_of(draft, state))

    def brief_state(self, number: int, events: Sequence[OrderEvent]) -> OrderState:
        """The state without the draft, for lists that need no more."""
        plan = self.history.plan(number)
        lines = line_count(self._seed, OrderKey(self.seller.index, number), plan)
        return fold(plan.type, lines, events)

    def create(self, number: int, at: int, visible_at: int) -> None:
        """Begin an order. Its number must be higher than all numbers so far."""
        if number < self._next:
            raise ValueError(f"order {number} comes after {self._next - 1}")
        self._next = number + 1
        self._live[number] = LiveOrder([], past=0)
        self._created.append(number)
        self._created_at.append(at)
        self._report("create", self.seller.index, number, at, visible_at)
        self._add(number, OrderEvent(at, EventKind.CREATE), visible_at)

    def add(self, number: int, event: OrderEvent, visible_at: int) -> None:
        """Add an event to an order. It must not be earlier than any change before it."""
        self._report(
            "add", self.seller.index, number, event.at, event.kind, event.line, visible_at, event.moves_order
        )
        self._add(number, event, visible_at)

    def _add(self, number: int, event: OrderEvent, visible_at: int) -> None:
        live = self._live.get(number)
        if live is None:
            past = list(self.history.events(number))
            live = self._live[number] = LiveOrder(past, past=len(past))
        live.events.append(event)
        live.visible_at.append(visible_at)
        self._changed_at.append(event.at)
        self._changed.append(number)
        self.longest_delay = max(self.longest_delay, visible_at - event.at)

    def arrived_between(self, first: int, last: int, now: int) -> list[tuple[int, int]]:
        """(arrived, number) of orders whose visible state reached the lists in [first, last], unsorted."""
        found = [
            entry
            for entry in self.history.modified_between(first, last)
            if entry[1] not in self._live or self._shows_past(entry[1], now)
        ]
        # A change arrives no earlier than it happens, and at most the longest delay later.
        start = bisect_left(self._changed_at, first - self.longest_delay)
        for number in set(self._changed[start : bisect_right(self._changed_at, last)]):
            live = self._live[number]
            shown = live.visible(now)
            if shown > live.past and first <= live.visible_at[shown - live.past - 1] <= last:
                found.append((live.visible_at[shown - live.past - 1], number))
        return found

    def refunds_between(self, first: int, last: int, now: int) -> tuple[list[RefundRow], set[int]]:
        """The refunds that lists show with `modified` in [first, last], the oldest first.

        Without those of the orders that have changed since the start: their numbers are beside it, and maybe
        a few more. An order's events say what happened to its refunds later.
        """
        untouched: list[RefundRow] = []
        changed: set[int] = set()
        for row in self.history.refunds_between(first, last):
            if row.number in self._live and not self._shows_past(row.number, now):
                changed.add(row.number)
            else:
                untouched.append(row)
        start, stop = bisect_left(self._changed_at, first), bisect_right(self._changed_at, last)
        for number in self._changed[start:stop]:
            live = self._live[number]
            shown = live.visible(now)
            # Of an order whose changes lists do not show yet, the refunds are among the untouched.
            if shown > live.past and any(event.kind in REFUND_KINDS for event in live.events[:shown]):
                changed.add(number)
        return untouched, changed

    def first_arrived(self, number: int) -> int:
        """When an order reached the lists for the first time."""
        live = self._live.get(number)
        if live is None or live.past:
            return self.history.created(number)
        return min(live.visible_at)

    def modified_between(self, first: int, last: int, now: int) -> list[tuple[int, int]]:
        """(modified, number) of the orders that lists show with `modified` in [first, last], unsorted."""
        found = [
            entry
            for entry in self.history.modified_between(first, last)
            if entry[1] not in self._live or not self._has_moved(entry[1], now)
        ]
        start, stop = bisect_left(self._changed_at, first), bisect_right(self._changed_at, last)
        for number in set(self._changed[start:stop]):
            modified = modified_by(self.shown(number, now).events) if self._has_moved(number, now) else None
            if modified is not None and first <= modified <= last:
                found.append((modified, number))
        return found

    def created_since_start(self, first: int, last: int, now: int) -> list[int]:
        """The orders created since the start that lists show, created in [first, last], newest first."""
        start, stop = bisect_left(self._created_at, first), bisect_right(self._created_at, last)
        return [number for number in reversed(self._created[start:stop]) if self._live[number].visible(now)]

    def reveal(self, first: int, last: int, now: int) -> bool:
        """Let lists show a change in [first, last] early; returns whether there was such a change."""
        start, stop = bisect_left(self._changed_at, first), bisect_right(self._changed_at, last)
        for number in self._changed[start:stop]:
            live = self._live[number]
            for position, at in enumerate(live.visible_at):
                if at > now and first <= live.events[live.past + position].at <= last:
                    live.visible_at[position] = now
                    self._report("reveal", self.seller.index, first, last, now)
                    return True
        return False

    def shown(self, number: int, now: int) -> Visible:
        """An order as lists show it; it must be visible."""
        live = self._live.get(number)
        if live is None or (count := live.visible(now)) == live.past:
            events = self.history.events(number)
            return Visible(number, events, events[-1].at)
        return Visible(number, live.events[:count], live.visible_at[count - live.past - 1])

    def _has_moved(self, number: int, now: int) -> bool:
        """Whether lists show a change since the start that moved the order's `modified`."""
        live = self._live[number]
        return any(event.moves_order for event in live.events[live.past : live.visible(now)])

    def _shows_past(self, number: int, now: int) -> bool:
        live = self._live[number]
        return live.visible(now) == live.past
