"""The past: order *n* of a seller as a pure function of (seed, seller, n), and its inverse.

Nothing is stored, so a million orders cost neither start time nor memory. It works like this:

- *created* grows with n and can be inverted by arithmetic: the orders lie evenly on a line on which busy
  hours are longer;
- a linear congruence deals a *plan* to each order, in rounds of a thousand, so the orders of a plan in a
  range are found without looking at the others;
- each *step* of a plan happens within a bounded jitter after its delay, so the orders that were modified in
  a window were created in a short, known range before it.

The past ends with the second in which the simulator starts; later steps do not happen.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from struct import Struct
from typing import NamedTuple

from topsync.simulator.dice import Dice, octets
from topsync.simulator.life import REFUND_KINDS, OrderEvent, TradeType, fold
from topsync.simulator.plans import PLAN_OF_SLOT, PLANS, SLOTS, LifePlan, LifeStep

_DAY_SECONDS = 86400
_HOUR_SECONDS = 3600

_HOUR_WEIGHTS = (4, 2, 1, 1, 1, 1, 2, 3, 5, 7, 9, 9, 8, 7, 7, 8, 8, 8, 8, 9, 11, 11, 9, 6)
"""How busy each hour of a platform day is."""
_HOUR_STARTS = [0, *accumulate(weight * _HOUR_SECONDS for weight in _HOUR_WEIGHTS)]
_DAY_WEIGHT = _HOUR_STARTS[-1]

_DEAL_FACTOR = 829
"""Coprime to SLOTS, so a round deals each slot once. Of such numbers it spreads best: among any 200 orders in
a row there is each plan that has at least seven slots."""
_DEAL_INVERSE = pow(_DEAL_FACTOR, -1, SLOTS)

_CREATED_BITS = 32
_JITTER_BITS = 16
_CHANCE = Struct(f"<I{max(len(plan.steps) for plan in PLANS)}H")
"""The random numbers of an order: for its time of creation, and for the jitter of each step."""

_KEPT_WINDOWS = 16
"""Recent answers of `modified_between` to keep: the pages of a window ask the same question again."""
_KEPT_REFUND_WINDOWS = 4
"""Recent answers of `refunds_between` to keep: a client asks for a window, then for its halves."""


class RefundRow(NamedTuple):
    """A refund in a list; sorts by time, then by number."""

    modified: int
    number: int
    line: int
    attempt: int
    status: str


@dataclass(frozen=True, slots=True)
class PastSpan:
    """The seconds of the past: from 00:00 of a platform day up to and including `last`."""

    first: int
    last: int

    @property
    def weight(self) -> int:
        """Length of the stretched line."""
        return self.position(self.last) + 1

    def position(self, second: int) -> int:
        """Where a second begins on the stretched line; clamped to the beginning."""
        day, within = divmod(max(0, second - self.first), _DAY_SECONDS)
        hour, rest = divmod(within, _HOUR_SECONDS)
        return day * _DAY_WEIGHT + _HOUR_STARTS[hour] + rest * _HOUR_WEIGHTS[hour]

    def second(self, position: int) -> int:
        """The second that holds a position of the stretched line."""
        day, within = divmod(position, _DAY_WEIGHT)
        hour = bisect_right(_HOUR_STARTS, within) - 1
        rest = (within - _HOUR_STARTS[hour]) // _HOUR_WEIGHTS[hour]
        return self.first + day * _DAY_SECONDS + hour * _HOUR_SECONDS + rest


class SellerHistory:
    """One seller's base orders, numbered from 0 to `count` - 1 in order of creation."""

    def __init__(self, seed: int, seller: int, count: int, span: PastSpan) -> None:
        self.count = count
        self._seed = seed
        self._seller = seller
        self._span = span
        self._weight = span.weight
        self._deal_offset = Dice(seed, b"deal", seller).below(SLOTS)
        self._windows: OrderedDict[tuple[int, int], list[tuple[int, int]]] = OrderedDict()
        self._refund_windows: OrderedDict[tuple[int, int], list[RefundRow]] = OrderedDict()

    def plan(self, number: int) -> LifePlan:
        """The plan of an order; also defined for live orders (number >= count), which need its type."""
        return PLAN_OF_SLOT[self._slot(number)]

    def created(self, number: int) -> int:
        """The second in which a base order was created."""
        return self._created(number, self._chance(number)[0])

    def events(self, number: int) -> list[OrderEvent]:
        """The events of a base order, in order of time; the first is its creation."""
        steps = self.plan(number).steps
        return [
            OrderEvent(at, step.kind, step.line)
            for at, step in zip(self._seconds(number, steps), steps, strict=False)
        ]

    def modified(self, number: int) -> int:
        """The second of a base order's last event."""
        return self._seconds(number, self.plan(number).steps)[-1]

    def created_range(self, first: int, last: int) -> range:
        """The numbers of the base orders created in the seconds [first, last]."""
        if last < first or not self.count:
            return range(0)
        return range(self._first_created_at(first), self._first_created_at(last + 1))

    def modified_between(self, first: int, last: int) -> list[tuple[int, int]]:
        """(modified, number) of the base orders whose last event lies in [first, last], unsorted.

        The answer is kept for the next page: do not change it.
        """
        window = (first, last)
        if window not in self._windows:
            self._windows[window] = list(self._modified_between(first, last))
            if len(self._windows) > _KEPT_WINDOWS:
                self._windows.popitem(last=False)
        return self._windows[window]

    def refund_steps_between(self, first: int, last: int) -> int:
        """About how many refund steps happened to base orders in [first, last]; looks at no order."""
        return sum(
            len(created) * plan.per_mille // SLOTS for plan, _, created in self._refund_steps(first, last)
        )

    def refunds_between(self, first: int, last: int) -> list[RefundRow]:
        """The refunds of base orders that last changed in [first, last], the oldest first."""
        for (start, end), kept in self._refund_windows.items():
            if start <= first and last <= end:
                return kept[bisect_left(kept, (first,)) : bisect_left(kept, (last + 1,))]
        found = sorted(self._refunds_between(first, last))
        self._refund_windows[first, last] = found
        if len(self._refund_windows) > _KEPT_REFUND_WINDOWS:
            self._refund_windows.popitem(last=False)
        return found.copy()

    def typed(self, numbers: range, types: frozenset[TradeType]) -> TypedRange:
        """The orders of a range that have one of these types; can be counted without a scan."""
        return TypedRange(numbers, [plan.type in types for plan in map(self.plan, range(SLOTS))])

    def _modified_between(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        for plan in PLANS:
            for position, created in self._last_steps(plan, first, last):
                for number in self._dealt(plan, created):
                    seconds = self._seconds(number, plan.steps)
                    if len(seconds) == position + 1 and first <= seconds[-1] <= last:
                        yield seconds[-1], number

    def _last_steps(self, plan: LifePlan, first: int, last: int) -> Iterator[tuple[int, range]]:
        """Each step that may have been the last step of an order, in the window, with these orders."""
        for position, step in enumerate(plan.steps):
            earliest = first - step.delay_seconds - step.jitter_seconds
            if position + 1 < len(plan.steps):
                following = plan.steps[position + 1]
                # The next step is after the end of the past, so the creation is recent.
                earliest = max(earliest, self._span.last - following.delay_seconds - following.jitter_seconds)
            numbers = self.created_range(earliest, min(last, self._span.last) - step.delay_seconds)
            if numbers:
                yield position, numbers

    def _refunds_between(self, first: int, last: int) -> Iterator[RefundRow]:
        for plan, position, created in self._refund_steps(first, last):
            for number in self._dealt(plan, created):
                seconds = self._seconds(number, plan.steps)
                if position < len(seconds) and first <= seconds[position] <= last:
                    for refund in _refunds_after(plan, len(seconds)):
                        if refund.modified == position:
                            yield refund._replace(modified=seconds[position], number=number)

    def _refund_steps(self, first: int, last: int) -> Iterator[tuple[LifePlan, int, range]]:
        """Each refund step of each plan, with the orders in which it may have happened in the window."""
        for plan in PLANS:
            for position, step in enumerate(plan.steps):
                if step.kind in REFUND_KINDS:
                    earliest = first - step.delay_seconds - step.jitter_seconds
                    latest = min(last, self._span.last) - step.delay_seconds
                    yield plan, position, self.created_range(earliest, latest)

    def _dealt(self, plan: LifePlan, numbers: range) -> Iterator[int]:
        """The orders of a range that have this plan."""
        for slot in range(plan.first_slot, plan.first_slot + plan.per_mille):
            residue = (slot - self._deal_offset) * _DEAL_INVERSE % SLOTS
            yield from range(numbers.start + (residue - numbers.start) % SLOTS, numbers.stop, SLOTS)

    def _slot(self, number: int) -> int:
        return (number * _DEAL_FACTOR + self._deal_offset) % SLOTS

    def _chance(self, number: int) -> tuple[int, ...]:
        return _CHANCE.unpack_from(octets(self._seed, b"past", self._seller, number))

    def _created(self, number: int, drawn: int) -> int:
        jitter = (drawn * self._weight) >> _CREATED_BITS
        return self._span.second((number * self._weight + jitter) // self.count)

    def _first_created_at(self, second: int) -> int:
        """The first number created in that second or later; `count` when there is none."""
        if second > self._span.last:
            return self.count
        estimate = self._span.position(second) * self.count // self._weight
        # The jitter stays within an order's own part of the line, so the estimate is wrong by at most 1.
        near = range(max(0, estimate - 1), min(self.count, estimate + 2))
        return near.start + bisect_left([self.created(number) for number in near], second)

    def _seconds(self, number: int, steps: Sequence[LifeStep]) -> list[int]:
        """When each step of a base order's plan happened, until the end of the past; at least the first."""
        drawn, *jitters = self._chance(number)
        created = self._created(number, drawn)
        end = self._span.last
        following, jitter = iter(jitters), 0
        seconds: list[int] = []
        for step in steps:
            if not step.with_previous:
                jitter = (next(following) * (step.jitter_seconds + 1)) >> _JITTER_BITS
            at = created + step.delay_seconds + jitter
            if at > end:
                break
            seconds.append(at)
        return seconds


@cache
def _refunds_after(plan: LifePlan, happened: int) -> tuple[RefundRow, ...]:
    """The refunds after so many steps of a plan; in place of a time, the position of the step."""
    events = [OrderEvent(at, step.kind, step.line) for at, step in enumerate(plan.steps[:happened])]
    return tuple(
        RefundRow(refund.modified, 0, line, refund.attempt, refund.status)
        for line, lived in enumerate(fold(plan.type, plan.max_lines, events).lines, 1)
        for refund in lived.refunds
    )


class TypedRange:
    """The numbers of a range whose slot is allowed."""

    def __init__(self, numbers: range, allowed: list[bool]) -> None:
        self._numbers = numbers
        self._allowed = allowed
        self._before = [0, *accumulate(allowed)]
        self._skipped = self._up_to(numbers.start)

    def __len__(self) -> int:
        return self._up_to(self._numbers.stop) - self._skipped if self._numbers else 0

    def newest(self, offset: int, limit: int) -> list[int]:
        """The numbers from the highest down, without the first `offset`, at most `limit` of them."""
        wanted = len(self) - offset
        if wanted <= 0:
            return []
        top = self._numbers[bisect_left(self._numbers, wanted, key=self._rank)]
        found: list[int] = []
        for number in range(top, self._numbers.start - 1, -1):
            if len(found) == limit:
                break
            if self._allowed[number % SLOTS]:
                found.append(number)
        return found

    def _rank(self, number: int) -> int:
        """How many of the range are allowed, up to and including this number."""
        return self._up_to(number + 1) - self._skipped

    def _up_to(self, number: int) -> int:
        """How many allowed numbers lie in [0, number)."""
        rounds, rest = divmod(number, SLOTS)
        return rounds * self._before[SLOTS] + self._before[rest]
