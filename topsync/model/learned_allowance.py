"""The visibility allowance that is learnt: when it is raised, what that takes back, how it comes down. Pure.

What holds for a claim is the largest of three: the setting, the calendar's for a sale, and this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from topsync.model.arrivals import LateArrival

MARGIN: Final = 1.25
"""So much longer than what was seen: what was seen is hardly the latest that there will be."""

UNSEEN: Final = 2
"""It is not taken to be later than so many times what is certain. Where no list looked for long, nobody knows
when it appeared, and a list that looked late must not hold all claims back by as much."""

STEP: Final = timedelta(days=1)
"""It comes down once in so long ..."""

STEP_SHARE: Final = 0.9
"""... to so much of what it was: from half an hour to ten minutes within eleven days."""

TAIL: Final = timedelta(days=7)
"""It does not come down below what was seen within so long. So the week after a sale rests on the sale."""


@dataclass(frozen=True, slots=True)
class LearnedAllowance:
    """What holds beside the setting and the calendar. Times are platform time."""

    allowance: timedelta = timedelta(0)
    """Zero: nothing is learnt."""
    since: datetime | None = None
    """When it began to be above zero."""
    changed_at: datetime | None = None
    """When it was raised or lowered last."""


@dataclass(frozen=True, slots=True)
class LearningRules:
    """The settings that decide."""

    is_on: bool
    most: timedelta
    """It is never longer."""

    def in_force(self, learned: timedelta) -> timedelta:
        """How much of what was learnt holds."""
        return min(learned, self.most) if self.is_on else timedelta(0)


def raised(learned: timedelta, exceeding: Sequence[LateArrival], rules: LearningRules) -> timedelta:
    """The allowance after late arrivals that exceeded what held: long enough for each, if it may be."""
    needed = _whole_seconds(max(_perhaps(each) for each in exceeding) * MARGIN)
    return max(learned, min(needed, rules.most))


def _perhaps(late: LateArrival) -> timedelta:
    """How late it may have been."""
    return min(late.at_most, late.at_least * UNSEEN)


def doubted_from(exceeding: Sequence[LateArrival], allowance: timedelta) -> datetime:
    """From when on claims that rest on less than the new allowance are taken back: this much before the
    oldest of the late changes.

    A list that was asked for at that change's time or later was perhaps as late. By the new allowance it
    proves nothing of what follows the moment returned here, and everything before it. Lists from before the
    change were compared as well, and nothing is known against them.
    """
    return min(each.modified for each in exceeding) - allowance


def lowered(
    learned: LearnedAllowance, *, longest: timedelta, usual: timedelta, now: datetime
) -> timedelta | None:
    """What it comes down to, when it is time; None where it stays.

    `longest` is by how much any change of the last days (`TAIL`) was surely late. What is no longer than the
    setting is forgotten.
    """
    changed_at = learned.changed_at
    if not learned.allowance or changed_at is None or now - changed_at < STEP:
        return None
    lower = _whole_seconds(max(learned.allowance * STEP_SHARE, longest * MARGIN))
    if lower >= learned.allowance:
        return None
    return lower if lower > usual else timedelta(0)


def _whole_seconds(time: timedelta) -> timedelta:
    """Rounded up, since it is shown to people."""
    return timedelta(seconds=math.ceil(time.total_seconds()))
