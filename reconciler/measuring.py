"""Measures the whole installation, for the metrics that no process knows by itself.

It is a duty: one reconciler does it at a time, and only that one shows what it found. Prometheus asks
processes for what they have; nothing is looked up because it asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from topsync.base import metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.model.calendar import EffectiveRules
from topsync.model.call_limits import CallLimits
from topsync.model.difference import DifferenceKind, DifferenceOutcome
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.model.slice import SliceState
from topsync.store import api_calls, call_budget, measures, standings
from topsync.store.call_budget import Ban
from topsync.store.database import Pool
from topsync.store.measures import CopyStanding
from topsync.store.sellers import SellerState
from topsync.stream.group_progress import TopicLag

log = telemetry.get_logger(__name__)

MEASURED_STATES: Final = (SellerState.LIVE, SellerState.EXPIRED)
"""Sellers whose copies should be fresh. A paused seller's copy stands still because somebody wanted it."""

KAFKA_SECONDS: Final = 20.0
"""How long Kafka may take before it counts as away."""

PULLS_UNTIL_LATE: Final = 2
"""A copy may be older by so many pulls: one may fail, or wait for the writers."""

Lag = Mapping[str, TopicLag]
"""By topic's name in the registry."""


def late_after(
    rules: EffectiveRules, *, poll_interval: timedelta, stored_within: timedelta
) -> timedelta | None:
    """How old a copy becomes while everything works, at most; None where sweeps are switched off. Pure."""
    if not rules.sweep_interval:
        return None
    apart = max(rules.sweep_interval, poll_interval)
    return rules.visibility + PULLS_UNTIL_LATE * apart + stored_within


def ages(copies: Sequence[CopyStanding], *, now: datetime) -> dict[int, float]:
    """Seconds since `complete_until`, by seller. Pure."""
    return {copy.seller_id: max(0.0, (now - copy.complete_until).total_seconds()) for copy in copies}


def holes(copies: Sequence[CopyStanding]) -> dict[int, float]:
    """Holes of the sellers that have any. Pure."""
    return {copy.seller_id: copy.holes for copy in copies if copy.holes}


@dataclass(slots=True)
class Measuring:
    """What measures."""

    pool: Pool
    clock: ServerClock
    rules: Callable[[datetime], EffectiveRules]
    """What holds at a time."""
    poll_interval: timedelta
    stored_within: timedelta
    lag: Callable[[], Awaitable[Lag]]
    """Asks Kafka how far the enrichers are behind."""
    interval_seconds: float
    """Between the beginnings of two rounds."""
    _due_at: float = float("-inf")
    """By the monotonic clock."""

    async def round(self) -> None:
        """Measure, when it is time. A crash at any point is harmless.

        Raises:
            OSError, asyncpg.PostgresError: the database is away; what was measured before is forgotten.
        """
        if (moment := time.monotonic()) < self._due_at:
            return
        self._due_at = moment + self.interval_seconds
        now = self.clock.now()
        await self._copies(now)
        await self._calls(self.rules(now).limits)
        await self._bulk_starts()
        await self._findings()
        await self._kafka(now)
        metrics.MEASURED_AT.set(time.time())

    @staticmethod
    def forget() -> None:
        """See `reconciler.duties.Forgetting`."""
        _forget_lag()
        for by_seller in (metrics.COPY_AGE, metrics.HOLES):
            by_seller.forget()
        for gauge in (
            metrics.COPIES,
            metrics.COPY_LATE_AFTER,
            metrics.CALLS_PER_SECOND_LIMIT,
            metrics.BULK_STARTS,
            metrics.BULK_START_AGE,
            metrics.COMPARED_AT,
            metrics.KAFKA_AWAY,
            metrics.MEASURED_AT,
        ):
            gauge.forget()
        for labelled in (
            metrics.CALLS_USED_TODAY,
            metrics.BAN_SECONDS_LEFT,
            metrics.BULK_START_SLICES,
            metrics.WITNESS_FINDINGS,
            metrics.LAST_DIFFERENCES,
        ):
            labelled.clear()

    async def _copies(self, now: datetime) -> None:
        found = await measures.copies(self.pool, MEASURED_STATES)
        metrics.COPY_AGE.show(ages(found, now=now))
        metrics.HOLES.show(holes(found))
        metrics.COPIES.set(len(found))
        late = late_after(self.rules(now), poll_interval=self.poll_interval, stored_within=self.stored_within)
        if late is None:
            metrics.COPY_LATE_AFTER.forget()
        else:
            metrics.COPY_LATE_AFTER.set(late.total_seconds())

    async def _calls(self, limits: CallLimits) -> None:
        spent, used = await call_budget.spent_today(self.pool), await api_calls.by_priority(self.pool)
        metrics.CALLS_PER_SECOND_LIMIT.set(limits.calls_per_second)
        for priority in Priority:
            metrics.CALLS_USED_TODAY.labels(priority.label).set(used.get(priority.label, 0))
            if (quota := limits.quota(priority)) is not None:
                metrics.CALLS_LEFT_TODAY.labels(priority.label).set(max(0, quota - spent))
        self._show_bans(await call_budget.bans(self.pool))

    def _show_bans(self, bans: Sequence[Ban]) -> None:
        now = datetime.now(UTC)  # bans are by the database's clock, which is this machine's or near it
        metrics.BAN_SECONDS_LEFT.clear()
        for ban in bans:
            metrics.BAN_SECONDS_LEFT.labels(ban.scope).set(max(0.0, (ban.until - now).total_seconds()))

    async def _bulk_starts(self) -> None:
        under_way = await standings.bulk_starts(self.pool)
        slices = await measures.slices(self.pool)
        now = datetime.now(UTC)
        oldest = min((start.started_at for start in under_way), default=now)
        metrics.BULK_STARTS.set(len(under_way))
        metrics.BULK_START_AGE.set(max(0.0, (now - oldest).total_seconds()))
        for state in SliceState:
            metrics.BULK_START_SLICES.labels(state.value).set(slices.get(state.value, 0))

    async def _findings(self) -> None:
        seen = await measures.witness_findings(self.pool)
        for kind in Kind:
            metrics.WITNESS_FINDINGS.labels(kind.plural).set(seen.get(kind.plural, 0))
        last = await measures.last_comparison(self.pool)
        if last is None:
            return
        metrics.COMPARED_AT.set(last.ended_at.timestamp())
        for what in DifferenceKind:
            for outcome in (DifferenceOutcome.REPAIRED, DifferenceOutcome.LEFT):
                found = last.differences.get((what.value, outcome.value), 0)
                metrics.LAST_DIFFERENCES.labels(what.value, outcome.value).set(found)

    async def _kafka(self, now: datetime) -> None:
        try:
            async with asyncio.timeout(KAFKA_SECONDS):
                found = await self.lag()
        except GroupCoordinatorNotAvailableError:
            return  # nobody has been in the group yet
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("Kafka does not say how far the enrichers are", error=repr(error))
            metrics.KAFKA_AWAY.set(1)
            _forget_lag()
            return
        metrics.KAFKA_AWAY.set(0)
        for topic, lag in found.items():
            metrics.LAG_RECORDS.labels(topic).set(lag.records)
            metrics.LAG_SECONDS.labels(topic).set(lag.seconds(now))


def _forget_lag() -> None:
    for gauge in (metrics.LAG_RECORDS, metrics.LAG_SECONDS):
        gauge.clear()
