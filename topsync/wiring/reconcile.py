"""The reconciler, put together with the watch over the sellers' sessions."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

from reconciler import backlog_plan
from reconciler.backlogs import BulkDetails
from reconciler.circuits import CircuitJudge, PullBrake
from reconciler.plan import PullRules
from reconciler.refetching import Refetching
from reconciler.replays import Replays
from reconciler.requests import SignalReader
from reconciler.service import Reconciler
from topsync.base import live_calendar, settings, telemetry
from topsync.base.service import Lifetime
from topsync.base.settings import (
    BudgetSettings,
    CircuitSettings,
    EnricherSettings,
    ReconcilerSettings,
    SchemeSettings,
    SessionSettings,
)
from topsync.model.kind import Kind
from topsync.sellers.session_watch import SessionWatch
from topsync.wiring import opening, parts, platforms

log = telemetry.get_logger(__name__)


async def run(lifetime: Lifetime) -> None:
    """The reconciler: gaps, sweeps, replays; and beside it the watch over the sellers' sessions."""
    platform = platforms.chosen()
    parts.check_settings(platform)
    own = settings.load(ReconcilerSettings)
    budget, share = settings.load(BudgetSettings), settings.load(SessionSettings).session_refresh_share
    schemes, circuit = settings.load(SchemeSettings), settings.load(CircuitSettings)
    vault, list_rules = parts.vault(), platform.list_rules(Kind.ORDER)
    calendar = live_calendar.configured()
    kafka, registry = await parts.open_topics()
    async with (
        parts.open_pool() as pool,
        opening.open_platform(platform, pool, calendar=calendar) as (opened, clock),
        parts.open_sessions(platform, pool, clock, vault) as sessions,
        parts.open_producer(kafka) as producer,
    ):
        puller = parts.puller(platform, opened, pool, clock, producer, registry, calendar)
        detail_tasks = opened.detail_tasks
        if detail_tasks is None:
            log.info("the platform has no tasks of many orders: backlogs are drained by single orders")
        reconciler = Reconciler(
            settings=own,
            rules=lambda now: PullRules(
                lists=list_rules,
                calendar=calendar(),
                sweep_interval=calendar().at(now).sweep_interval,
                poll_interval=schemes.poll_interval,
                gap_retry=timedelta(seconds=own.gap_retry_seconds),
            ),
            pool=pool,
            puller=puller,
            sessions=sessions,
            clock=clock,
            refetching=Refetching(
                pool=pool,
                producer=producer,
                topics=registry,
                clock=clock,
                max_attempts=own.refetch_attempts,
                hints_at_once=lambda: math.ceil(
                    calendar().at(clock.now()).limits.calls_per_second * own.reconcile_poll_seconds
                ),
            ),
            bulk=BulkDetails(
                pool=pool,
                producer=producer,
                topics=registry,
                tasks=detail_tasks,
                clock=clock,
                sessions=sessions,
                rules=backlog_plan.BacklogRules(
                    from_seconds=own.bulk_from_seconds,
                    tasks_at_once=own.bulk_tasks,
                    calls_per_second=budget.calls_per_second,
                    backlog_changes=settings.load(EnricherSettings).backlog_changes,
                    orders_per_task=0 if detail_tasks is None else detail_tasks.max_orders,
                ),
                poll_seconds=own.bulk_poll_seconds,
                deadline_seconds=own.bulk_deadline_seconds,
            ),
            replays=Replays(
                pool=pool,
                puller=puller,
                sessions=sessions,
                clock=clock,
                notifications_topic=registry.notifications.name,
                calls_per_second=budget.calls_per_second,
            ),
            circuit_judge=CircuitJudge(pool, lambda: calendar().at(clock.now()).circuit),
            brake=PullBrake(circuit.pull_interval, platform.pull_apis),
            scheme=schemes.scheme,
        )
        watch = SessionWatch(
            pool=pool,
            sessions=sessions,
            subscriptions=opened.subscriptions,
            clock=clock,
            producer=producer,
            notifications_topic=registry.notifications.name,
            refresh_share=share,
            scheme=schemes.scheme,
            push_silent_for=timedelta(seconds=own.push_lost_after_seconds),
        )
        reader = SignalReader(kafka, registry, pool, producer, clock, list_rules)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reconciler.run(lifetime))
            tasks.create_task(watch.run(lifetime))
            tasks.create_task(reader.run(lifetime))
