"""How pulls stand, for `topsync status`: which allowance holds and why, and how far sweeps are apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from topsync.base import settings
from topsync.base.settings import CoverageSettings
from topsync.model import sweeping
from topsync.model.arrivals import ArrivalCounts
from topsync.model.calendar import Calendar
from topsync.model.learned_allowance import TAIL
from topsync.store import visibility, work_leases
from topsync.store.database import Pool
from topsync.store.visibility import VisibilityChange

DAY: Final = timedelta(days=1)


class Because(StrEnum):
    """Why the visibility allowance is as long as it is."""

    USUAL = "usual"
    """The setting."""
    CALENDAR = "calendar"
    """A sale."""
    LEARNED = "learned"
    """Lists were later than that."""


@dataclass(frozen=True, slots=True)
class VisibilityStatus:
    """The visibility allowance that holds. Times are platform time."""

    allowance: timedelta
    because: Because
    otherwise: timedelta
    """What would hold if nothing had been learnt."""
    learned: timedelta = timedelta(0)
    since: datetime | None = None
    """Since when something is learnt."""
    is_learning: bool = True
    most: timedelta = timedelta(hours=2)
    longest: timedelta = timedelta(0)
    """By how much any change of the last days was surely late."""
    last_raising: VisibilityChange | None = None
    last_day: Mapping[int, ArrivalCounts] | None = None
    """The histogram of the last day, by the seconds at which its steps begin."""

    @property
    def is_too_short(self) -> bool:
        """Whether lists were later, within the last days, than may be learnt."""
        return self.is_learning and self.longest > max(self.most, self.allowance)


@dataclass(frozen=True, slots=True)
class SweepStatus:
    """How far sweeps of a seller are apart."""

    wanted: timedelta
    interval: timedelta
    """As it is; never shorter than wanted."""

    @property
    def is_stretched(self) -> bool:
        """Whether the calls, or the places for pulls, do not suffice for the wanted interval."""
        return sweeping.is_stretched(self.interval, self.wanted)


async def with_learned(pool: Pool, calendar: Calendar) -> Calendar:
    """The calendar with the visibility allowance that was learnt and holds now."""
    learned = await visibility.learned(pool)
    return replace(calendar, learned=settings.load(CoverageSettings).learning.in_force(learned.allowance))


async def visibility_status(pool: Pool, calendar: Calendar, now: datetime) -> VisibilityStatus:
    """What holds now, of a calendar `with_learned`."""
    rules, learned = settings.load(CoverageSettings).learning, await visibility.learned(pool)
    otherwise = replace(calendar, learned=timedelta(0)).visibility_allowance(now)
    allowance = calendar.visibility_allowance(now)
    because = Because.USUAL
    if allowance > otherwise:
        because = Because.LEARNED
    elif otherwise > calendar.usual.visibility:
        because = Because.CALENDAR
    return VisibilityStatus(
        allowance=allowance,
        because=because,
        otherwise=otherwise,
        learned=learned.allowance,
        since=learned.since,
        is_learning=rules.is_on,
        most=rules.most,
        longest=await visibility.longest(pool, now - TAIL),
        last_raising=await visibility.last_raising(pool),
        last_day=_summed(await visibility.histogram(pool, now - DAY)),
    )


def _summed(counts: Mapping[tuple[datetime, int], ArrivalCounts]) -> dict[int, ArrivalCounts]:
    shown: Counter[int] = Counter()
    lacked: Counter[int] = Counter()
    for (_, step), each in counts.items():
        shown[step] += each.shown
        lacked[step] += each.lacked
    return {step: ArrivalCounts(shown[step], lacked[step]) for step in sorted(shown | lacked)}


async def sweep_status(
    pool: Pool, swept: Sequence[int], wanted: timedelta, now: datetime
) -> SweepStatus | None:
    """How far sweeps of these sellers are apart; None where there are none."""
    if not wanted or not swept:
        return None
    pulled_at = await work_leases.pulled_at(pool, swept)
    return SweepStatus(wanted, sweeping.apart((now - moment for moment in pulled_at.values()), wanted))
