"""How the work is shared among the processes that are alive. Pure.

Each process looks at how much everybody has, and decides for itself: it takes what is free up to its share,
and gives back what is above its share. Looks follow each other, one process at a time, so what one decides is
seen by the next. Shares differ by one at most. Work moves only where it must:

- What is free goes to whoever has least and, among equals, has come last. So it goes to a process that has
  just come before any other.
- A process gives back only what is above its share, little at a time, and only when nobody has joined for a
  while. So in a rolling restart in which each new process joins before an old process ends, the new process
  takes exactly what the old process gives back: each piece of work moves once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

Member = TypeVar("Member", UUID, int)

GIVEN_AT_ONCE: Final = 20
"""How much of a kind of work a process gives back at one look."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a process does at a look; at most one of the two is above 0."""

    take: int = 0
    give: int = 0


def share_of(held: Mapping[Member, int], free: int, ages: Mapping[Member, float]) -> dict[Member, int]:
    """How much each member should have, when all work is with somebody.

    What does not divide evenly stays with those who have it, and otherwise goes to those who have least.
    Among equals, those who have joined last have it: in a restart, the others are the next to go.
    """
    even, left_over = divmod(sum(held.values()) + free, len(held))

    def first(member: Member) -> tuple[bool, int, float, Member]:
        more = held[member] > even
        return not more, -held[member] if more else held[member], ages[member], member

    richer = set(sorted(held, key=first)[:left_over])
    return {member: even + (member in richer) for member in held}


def step(
    member: Member, held: Mapping[Member, int], free: int, ages: Mapping[Member, float], *, is_calm: bool
) -> Step:
    """What a member does now, when these members hold so much of a kind of work and so much is free.

    `ages` say how long ago each has joined, and `is_calm` that nobody has for a while.
    """
    above = held[member] - share_of(held, free, ages)[member]
    if above < 0:
        return Step(take=min(free, -above))
    return Step(give=min(above, GIVEN_AT_ONCE)) if is_calm else Step()
