"""What a replay takes inside the call budget as it is now, and what it delays. Pure.

Operators' calls go before those of bulk starts and sweeps, and behind those of live changes and gaps
(`topsync.model.priority`). So what the urgent ones use now is not there for a replay, and what the others use
now is; the least is the share that is guaranteed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from topsync.budget.leases import GUARANTEED_SHARES
from topsync.model.priority import Priority

URGENT = frozenset({Priority.LIVE.label, Priority.GAP.label})
"""What goes before a replay."""


@dataclass(frozen=True, slots=True)
class BudgetNow:
    """The call budget of all processes, as it is now."""

    calls_per_second: float
    """The limit."""
    urgent_per_second: float
    """What live changes and gaps use."""
    left_today: int | None
    """What the day's quota leaves for operators; None without a quota."""
    day_ends_in_seconds: float = 86_400.0
    banned_seconds: float = 0.0
    """For so long no call is made at all."""
    bulk_starts: int = 0
    """How many are under way."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long some calls take."""

    minutes: float
    delays: str
    """What waits meanwhile, in words."""


def urgent_per_second(before: Mapping[str, int], after: Mapping[str, int], *, seconds: float) -> float:
    """How many urgent calls were made in a second, from the day's counts by priority at two looks.

    Zero where the day has begun anew in between.
    """
    made = sum(after.get(label, 0) - before.get(label, 0) for label in URGENT)
    return max(0.0, made / seconds)


def free_per_second(budget: BudgetNow) -> float:
    """What is left for a replay: never less than its guaranteed share."""
    least = GUARANTEED_SHARES[Priority.OPERATOR] * budget.calls_per_second
    return max(least, budget.calls_per_second - budget.urgent_per_second)


def forecast(calls: int, budget: BudgetNow) -> Forecast:
    """The least time for so many calls, where the urgent ones go on to use what they use now."""
    rate = free_per_second(budget)
    seconds = budget.banned_seconds + calls / rate
    over = 0 if budget.left_today is None else max(0, calls - budget.left_today)
    if over:
        # The rest begins anew at midnight, and may take more days than one.
        quota = max(1, budget.left_today or 0)
        seconds = max(seconds, budget.day_ends_in_seconds + over / rate)
        return Forecast(
            _minutes(seconds),
            f"{_waits(budget)}; the day's quota leaves it {quota if budget.left_today else 0} calls, and the "
            f"other {over} wait until after midnight (GMT+8)",
        )
    return Forecast(_minutes(seconds), _waits(budget))


def _minutes(seconds: float) -> float:
    return round(seconds / 60, 2)


def _waits(budget: BudgetNow) -> str:
    starts = {0: "bulk starts", 1: "the bulk start that is under way"}.get(
        budget.bulk_starts, f"the {budget.bulk_starts} bulk starts that are under way"
    )
    return f"sweeps and {starts} have only their guaranteed share meanwhile; live changes and gaps go first"
