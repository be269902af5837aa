"""Which seller is pulled next, when many wait. Pure.

Polls come first, then the first pulls of gaps, the newest loss first: what happened last is what somebody
looks at. Then come the pulls that prove gaps, those that wait longest first. Sweeps take what is left. So
that nobody starves,

- every fourth turn is for whoever waits longest, whatever for;
- a pull that failed waits anew, at the end of its line: sellers that cannot be pulled do not take every turn;
- while others wait, sweeps have a quarter of the places, and no more: they are the last to get calls, and
  would otherwise stand in all of them in the end.

A pull that has read its lists makes no more calls: it waits for the writers to fetch what it asked for. It is
then *aside*, and another seller has its place; otherwise, where the writers need seconds, all places would
be taken by pulls that make no call, and the budget's calls would be lost. Sweeps keep their places, because
they ask for little, and must not take the room of gaps and polls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from reconciler.plan import Turn, TurnKind

LONGEST_EVERY: Final = 4
"""Every 4th turn is for whoever waits longest."""

SWEEPS_SHARE: Final = 4
"""Sweeps have one of 4 places while gaps or polls wait."""


@dataclass(slots=True)
class PullTurns:
    """The sellers that wait, in the order of their turns."""

    places: int
    """How many sellers are listed at the same time."""
    room_aside: int
    """How many more wait for the writers."""
    _turns: dict[int, Turn] = field(default_factory=dict)
    """Of those that wait."""
    _urgent: deque[int] = field(default_factory=deque)
    _longest: deque[int] = field(default_factory=deque)
    """The same sellers, those that wait longest first."""
    _sweeps: deque[int] = field(default_factory=deque)
    _given: int = 0

    def set_waiting(self, turns: Mapping[int, Turn]) -> None:
        """Replace everybody who waits."""
        self._turns = dict(turns)
        longest = sorted(turns, key=lambda seller_id: (turns[seller_id].since, seller_id))
        self._sweeps = deque(each for each in longest if turns[each].kind is TurnKind.SWEEP)
        self._longest = deque(each for each in longest if turns[each].kind is not TurnKind.SWEEP)
        # Sorting is stable, so those that are equal here stand in the order in which they wait.
        self._urgent = deque(sorted(self._longest, key=lambda seller_id: _urgency(turns[seller_id])))

    def next(self, *, running: int, sweeping: int, aside: int) -> tuple[int, Turn] | None:
        """Take the next seller, while `running` are pulled: `aside` of them wait for the writers, and of the
        others `sweeping` are swept.

        None: all places are taken, or nobody waits.
        """
        # Where more are aside than there is room for, they take places.
        running -= min(aside, self.room_aside)
        if running >= self.places:
            return None
        for line in (self._urgent, self._longest, self._sweeps):
            while line and line[0] not in self._turns:
                line.popleft()
        seller_id = self._choose(running, sweeping)
        if seller_id is None:
            return None
        self._given += 1
        return seller_id, self._turns.pop(seller_id)

    def _choose(self, running: int, sweeping: int) -> int | None:
        if not self._urgent:
            return self._sweeps[0] if self._sweeps else None
        kept = self.places // SWEEPS_SHARE
        if self._sweeps and running - sweeping >= self.places - kept:
            return self._sweeps[0]
        if self._given % LONGEST_EVERY < LONGEST_EVERY - 1:
            return self._urgent[0]
        longest = self._longest[0]
        # Of so few places, sweeps have none of their own.
        if self._sweeps and not kept and not sweeping:
            return min(longest, self._sweeps[0], key=lambda seller_id: self._turns[seller_id].since)
        return longest


def _urgency(turn: Turn) -> tuple[int, float]:
    newest_first = -turn.newest.timestamp() if turn.kind is TurnKind.FRESH else 0.0
    return turn.kind, newest_first
