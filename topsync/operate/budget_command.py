"""`topsync budget`: what may be called, what is left of the day, who used it, and what is closed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas import platform_time
from topsync.base import durations, settings, terminal
from topsync.base.settings import BudgetSettings
from topsync.base.terminal import Column, Styled, Table, facts
from topsync.budget.leases import GUARANTEED_SHARES
from topsync.model.call_limits import CallLimits
from topsync.model.priority import Priority
from topsync.store import api_calls, call_budget
from topsync.store.api_calls import WELL, CallsOfDay, CallsOfService
from topsync.store.call_budget import Ban
from topsync.store.database import Pool
from topsync.wiring import parts

BETWEEN_SECONDS: Final = 3.0
"""Between two looks at the calls: each process writes its own down every second."""

MOST_APIS: Final = 30
"""APIs that are shown, those with the most calls first."""

WRONG: Final = "bold red"


@dataclass(frozen=True, slots=True)
class BudgetSeen:
    """The budget at a moment."""

    limits: CallLimits
    spent_today: int
    calls: Sequence[CallsOfDay]
    """Of the platform's day."""
    services: Sequence[CallsOfService]
    """Whose they were."""
    per_second: Mapping[str, float]
    """How many calls a second are made now, by priority."""
    bans: Sequence[Ban]
    now: datetime

    @property
    def left_today(self) -> int | None:
        """What the day's quota leaves; None without a quota."""
        return (
            None
            if self.limits.calls_per_day is None
            else max(0, self.limits.calls_per_day - self.spent_today)
        )

    def by(self, name: str) -> Counter[str]:
        """Calls of the day by one of `api`, `priority`, `outcome`."""
        counted: Counter[str] = Counter()
        for each in self.calls:
            counted[getattr(each, name)] += each.calls
        return counted

    def failed(self, name: str) -> Counter[str]:
        """The same of calls that were not answered as asked."""
        counted: Counter[str] = Counter()
        for each in self.calls:
            if each.outcome != WELL:
                counted[getattr(each, name)] += each.calls
        return counted

    @property
    def spent_at(self) -> datetime | None:
        """When the quota is used up if it goes on like now; None where that is not before the day's end."""
        rate, left = sum(self.per_second.values()), self.left_today
        if left is None or rate <= 0:
            return None
        at = self.now + timedelta(seconds=left / rate)
        return at if at < self.day_ends_at else None

    @property
    def day_ends_at(self) -> datetime:
        """The platform's next midnight."""
        return platform_time.start_of(platform_time.day_of(self.now) + timedelta(days=1))


async def show(*, as_json: bool) -> None:
    """Show the budget; looks twice, to see how many calls are made now."""
    async with parts.open_pool() as pool:
        seen = await _look(pool)
    if as_json:
        terminal.write_json(_document(seen))
        return
    for at, table in enumerate(_tables(seen)):
        terminal.say(*([""] if at else []))
        terminal.show(table)
    if remarks := _remarks(seen):
        terminal.say("", *(line for remark in remarks for line in terminal.filled(remark)))


async def _look(pool: Pool) -> BudgetSeen:
    before = await api_calls.by_priority(pool)
    await asyncio.sleep(BETWEEN_SECONDS)
    after = await api_calls.by_priority(pool)
    return BudgetSeen(
        limits=settings.load(BudgetSettings).limits,
        spent_today=await call_budget.spent_today(pool),
        calls=await api_calls.of_day(pool),
        services=await api_calls.by_service(pool),
        per_second={
            priority.label: max(0, after.get(priority.label, 0) - before.get(priority.label, 0))
            / BETWEEN_SECONDS
            for priority in Priority
        },
        bans=await call_budget.bans(pool),
        now=datetime.now(UTC),
    )


def _tables(seen: BudgetSeen) -> list[Table]:
    return [
        _limits(seen),
        _priorities(seen),
        *([_services(seen)] if seen.services else []),
        *([_apis(seen)] if seen.calls else []),
    ]


def _limits(seen: BudgetSeen) -> Table:
    limits, table = seen.limits, facts("Call budget of all processes")
    table.add("calls a second", f"{limits.calls_per_second:g}, now {sum(seen.per_second.values()):.1f}")
    for api, calls_per_second in limits.api_calls_per_second.items():
        table.add(f"  {api}", f"{calls_per_second:g}")
    table.add("calls a day", "no limit is set" if limits.calls_per_day is None else str(limits.calls_per_day))
    table.add("leased today", str(seen.spent_today))
    if seen.left_today is not None:
        text = f"{seen.left_today}, the last {limits.live_reserve} for live changes"
        table.add("left today", Styled(text, WRONG) if seen.left_today <= limits.live_reserve else text)
    for ban in seen.bans:
        left = durations.text((ban.until - seen.now).total_seconds())
        text = f"until {platform_time.format(ban.until)} (GMT+8), for {left} more"
        table.add(f"closed: {ban.scope}", Styled(text, WRONG))
    return table


def _priorities(seen: BudgetSeen) -> Table:
    table = Table(
        (
            Column("priority", whole=True),
            Column("guaranteed", whole=True, rank=2),
            Column("now, a second", whole=True, rank=1),
            Column("calls today", whole=True),
            Column("failed", whole=True),
        ),
        title="By priority, the most urgent first",
    )
    calls, failed = seen.by("priority"), seen.failed("priority")
    for priority in Priority:
        share = GUARANTEED_SHARES.get(priority)
        table.add(
            priority.label,
            "goes first" if share is None else f"{share:.0%}",
            f"{seen.per_second[priority.label]:.1f}",
            str(calls[priority.label]),
            str(failed[priority.label]),
        )
    return table


def _services(seen: BudgetSeen) -> Table:
    table = Table(
        (
            Column("service", whole=True),
            Column("calls today", whole=True),
            Column("failed", whole=True),
            Column("by priority", rank=1),
        ),
        title="By service, of all its processes together",
    )
    calls: Counter[str] = Counter()
    for each in seen.services:
        calls[each.service] += each.calls
    for service, count in calls.most_common():
        mine = [each for each in seen.services if each.service == service]
        by_priority = Counter({each.priority: each.calls for each in mine})
        failed = sum(each.failed for each in mine)
        table.add(service, str(count), str(failed), _in_words(by_priority))
    return table


def _apis(seen: BudgetSeen) -> Table:
    table = Table(
        (
            Column("api", whole=True),
            Column("calls today", whole=True),
            Column("failed", whole=True),
            Column("by priority", rank=1),
            Column("outcomes but ok", rank=2),
        ),
        title="By API, the most called first",
    )
    failed = seen.failed("api")
    for api, calls in seen.by("api").most_common(MOST_APIS):
        mine = [each for each in seen.calls if each.api == api]
        by_priority: Counter[str] = Counter()
        outcomes: Counter[str] = Counter()
        for each in mine:
            by_priority[each.priority] += each.calls
            outcomes[each.outcome] += each.calls
        del outcomes[WELL]
        table.add(api, str(calls), str(failed[api]), _in_words(by_priority), _in_words(outcomes))
    return table


def _in_words(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counted.most_common())


def _remarks(seen: BudgetSeen) -> list[str]:
    """What the numbers mean, where that is not plain."""
    said = []
    if seen.left_today == 0:
        said.append("! the day's quota is used up: nothing is fetched until midnight (GMT+8)")
    elif seen.spent_at is not None:
        at = platform_time.format(seen.spent_at)
        said.append(f"! if it goes on like now, the day's quota is used up at {at} (GMT+8)")
    return said


def _document(seen: BudgetSeen) -> dict[str, object]:
    """The same for machines. The keys are a contract (docs/operations.md)."""
    return {
        "calls_per_second": seen.limits.calls_per_second,
        "api_calls_per_second": dict(seen.limits.api_calls_per_second),
        "calls_per_day": seen.limits.calls_per_day,
        "live_reserve": seen.limits.live_reserve,
        "leased_today": seen.spent_today,
        "left_today": seen.left_today,
        "spent_at": seen.spent_at,
        "now_per_second": dict(seen.per_second),
        "guaranteed_shares": {priority.label: share for priority, share in GUARANTEED_SHARES.items()},
        "bans": [{"scope": ban.scope, "until": ban.until} for ban in seen.bans],
        "calls_today": [
            {"api": each.api, "priority": each.priority, "outcome": each.outcome, "calls": each.calls}
            for each in seen.calls
        ],
        "services_today": [
            {
                "service": each.service,
                "priority": each.priority,
                "calls": each.calls,
                "failed": each.failed,
            }
            for each in seen.services
        ],
    }
