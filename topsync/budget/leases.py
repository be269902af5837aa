"""Who may call, how often and when: the arithmetic of the call budget. Pure.

Calls of a scope (the app, or an API with a limit of its own) stand on a time line, with an interval of
1 / limit seconds from each to the next. A process that has callers waiting, or will have some within
milliseconds, *leases* the next few places on that line; every place is handed out once, and is used between
its time and the lease's end or not at all. So all processes together keep this bound, whatever
happens to any process:

    calls begun in any t seconds <= 1 + limit * (t + LEASE_SECONDS)

since a call is never begun before its place and at most LEASE_SECONDS after it. A scope that was idle has
saved up nothing.

Priorities differ in how far ahead of now they may lease: one step more for each priority that is more
urgent. While a priority leases all it can, the line stays filled beyond the reach of less urgent priorities.
So that these do not starve, each has a guaranteed share of the limit: after 1 / (share * limit) seconds
without a place, it may lease a place further ahead than anyone. The shares add up to a quarter; the live
priority, which has no share, can always have the other three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from topsync.model.call_limits import APP, CallLimits
from topsync.model.priority import Priority

LEASE_SECONDS: Final = 0.25
"""A leased place that was not used by then is lost. It bounds the cost of a crash, or of an unknown ban."""

PRIORITY_STEP_SECONDS: Final = 0.025
"""How much further ahead a priority may lease than the next behind. Longer than a process lets pass between
two leases for which callers wait (`gate.POLL_SECONDS`), so that the less urgent priority never comes
first.
"""

FURTHEST_SECONDS: Final = 0.15
"""How far ahead a guaranteed place may lie: one step beyond the live priority."""

GUARANTEED_SHARES: Final[Mapping[Priority, float]] = {
    Priority.GAP: 0.10,
    Priority.OPERATOR: 0.05,
    Priority.BOOTSTRAP: 0.05,
    Priority.SWEEP: 0.05,
}
"""The part of every limit that a priority has even when more urgent calls wait. Unused, it is theirs."""


def horizon_seconds(priority: Priority) -> float:
    """How far ahead of now a call of this priority may lease."""
    return PRIORITY_STEP_SECONDS * (len(Priority) - priority)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a process wants: up to `wanted` places for a priority.

    Attributes:
        scope: `CallLimits.scope_of` of the APIs that will be called; an API with a limit takes places on two
        lines. returned: calls leased earlier that were never made: they do not count against the day.
    """

    priority: Priority
    scope: str
    wanted: int
    returned: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """What an ask means on a line.

    Attributes:
        guaranteed_seconds: the longest the priority goes without a place; None: it has no share.
        quota: see `CallLimits.quota`; None on lines without a quota.
    """

    scope: str
    interval_seconds: float
    guaranteed_seconds: float | None
    quota: int | None


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """The answer to an ask. Durations count from the moment of the answer.

    Attributes:
        answered_at: seconds of the book's own clock.
        calls: how many places; 0 when no place is free, during a ban of the app and when the day is used up.
        starts_in_seconds: when the first place is.
        spacing_seconds: from a place to the next.
        again_in_seconds: when it makes sense to ask for more.
        day_is_spent: the day's quota leaves this priority nothing.
        day_ends_in_seconds: until the platform's midnight.
        spent: calls of the platform's day so far, leased calls included.
        bans: scopes that may not be called, and how long still.
    """

    answered_at: float
    calls: int
    starts_in_seconds: float = 0.0
    spacing_seconds: float = 0.0
    again_in_seconds: float = 0.0
    day_is_spent: bool = False
    day_ends_in_seconds: float = 0.0
    spent: int = 0
    bans: Mapping[str, float] = field(default_factory=dict)


def terms(limits: CallLimits, ask: Ask) -> list[Terms]:
    """The lines that an ask takes places on: the app's, and its API's when that has a limit of its own."""
    share = GUARANTEED_SHARES.get(ask.priority)

    def line(scope: str, calls_per_second: float, quota: int | None) -> Terms:
        guaranteed = None if share is None else 1 / (share * calls_per_second)
        return Terms(scope, 1 / calls_per_second, guaranteed, quota)

    lines = [line(APP, limits.calls_per_second, limits.quota(ask.priority))]
    # The limit of an API may have ended with a sale, after its callers began to wait.
    if ask.scope in limits.api_calls_per_second:
        lines.append(line(ask.scope, limits.api_calls_per_second[ask.scope], None))
    return lines


@dataclass(slots=True)
class TimeLine:
    """Where a scope stands. Moments are seconds of any clock, always of the same.

    Attributes:
        next_at: the first place that is free.
        entitled_at: by priority, when its guaranteed share entitles it to a place.
        spent: calls of the day.
    """

    next_at: float = -math.inf
    entitled_at: dict[Priority, float] = field(default_factory=dict)
    spent: int = 0

    def reach(self, line: Terms, priority: Priority, now: float) -> int:
        """How many places the priority may lease now."""
        ahead = self.ahead_seconds(line, now)
        by_horizon = math.floor((horizon_seconds(priority) - ahead) / line.interval_seconds) + 1
        entitled = (
            line.guaranteed_seconds is not None
            and self.entitled_at.get(priority, now) <= now
            and ahead <= FURTHEST_SECONDS
        )
        left = math.inf if line.quota is None else line.quota - self.spent
        return int(max(0, min(max(by_horizon, int(entitled)), left)))

    def take(self, line: Terms, priority: Priority, now: float, calls: int) -> None:
        """Hand out the next `calls` places."""
        self.next_at = now + self.ahead_seconds(line, now) + calls * line.interval_seconds
        if line.guaranteed_seconds is not None:
            due = max(self.entitled_at.get(priority, now), now) + calls * line.guaranteed_seconds
            # What it leased above its share is not held against it later.
            self.entitled_at[priority] = min(due, now + line.guaranteed_seconds)
        self.spent += calls

    def ahead_seconds(self, line: Terms, now: float) -> float:
        """How far ahead the first free place is. No more than leases can have made it: a clock that was set
        back must not stop the calls for as long.
        """
        return min(max(self.next_at - now, 0.0), FURTHEST_SECONDS + line.interval_seconds)

    def again_in_seconds(self, line: Terms, priority: Priority, now: float) -> float:
        """How long until the priority may lease a place."""
        ahead = self.ahead_seconds(line, now)
        by_horizon = max(0.0, ahead - horizon_seconds(priority))
        if line.guaranteed_seconds is None:
            return by_horizon
        entitled = max(self.entitled_at.get(priority, now) - now, ahead - FURTHEST_SECONDS, 0.0)
        return min(by_horizon, entitled)


def lease(state: dict[str, TimeLine], limits: CallLimits, ask: Ask, now: float) -> LeaseGrant:
    """Answer an ask, and note it in `state`: the rule, as `store/sql/call_budget.sql` carries it out.

    Bans and the change of the day are the caller's.
    """
    lines = [(each, state.setdefault(each.scope, TimeLine())) for each in terms(limits, ask)]
    app_terms, app = lines[0]
    app.spent = max(0, app.spent - ask.returned)
    calls = min(ask.wanted, *(line.reach(each, ask.priority, now) for each, line in lines), ask.wanted)
    starts_in = max(line.ahead_seconds(each, now) for each, line in lines)
    day_is_spent = app_terms.quota is not None and app.spent >= app_terms.quota
    if calls:
        for each, line in lines:
            line.take(each, ask.priority, now, calls)
    return LeaseGrant(
        answered_at=now,
        calls=calls,
        starts_in_seconds=starts_in,
        spacing_seconds=max(each.interval_seconds for each, _ in lines),
        again_in_seconds=max(line.again_in_seconds(each, ask.priority, now) for each, line in lines),
        day_is_spent=day_is_spent,
        spent=app.spent,
    )
