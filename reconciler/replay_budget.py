"""Looks at the call budget as it is now, for the dry runs of replays."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas import platform_time
from topsync.coverage import replay_forecast
from topsync.coverage.replay_forecast import BudgetNow
from topsync.model.call_limits import APP, CallLimits
from topsync.model.priority import Priority
from topsync.store import api_calls, bootstraps, call_budget
from topsync.store.database import Pool

BETWEEN_SECONDS: Final = 4.0
"""Between two looks at how many calls were made. Each process writes its counts down every second."""


@dataclass(frozen=True, slots=True)
class BudgetLook:
    """Two looks, a moment apart."""

    pool: Pool
    limits: CallLimits
    between_seconds: float = BETWEEN_SECONDS

    async def look(self) -> BudgetNow:
        """What others use now, what is left of the day, and which bulk starts are under way."""
        before = await api_calls.by_priority(self.pool)
        await asyncio.sleep(self.between_seconds)
        after = await api_calls.by_priority(self.pool)
        quota = self.limits.quota(Priority.OPERATOR)
        now = datetime.now(UTC)
        banned = [ban.until - now for ban in await call_budget.bans(self.pool) if ban.scope == APP]
        return BudgetNow(
            calls_per_second=self.limits.calls_per_second,
            urgent_per_second=replay_forecast.urgent_per_second(before, after, seconds=self.between_seconds),
            left_today=None if quota is None else max(0, quota - await call_budget.spent_today(self.pool)),
            day_ends_in_seconds=_until_midnight(now).total_seconds(),
            banned_seconds=max(max(banned, default=timedelta(0)).total_seconds(), 0.0),
            bulk_starts=await bootstraps.count_under_way(self.pool),
        )


def _until_midnight(now: datetime) -> timedelta:
    """Until the platform's day ends, by this machine's clock."""
    china = now.astimezone(platform_time.CHINA)
    midnight = china.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return midnight - china
