"""The reconciler, put together with the watch over the sellers' sessions."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

from reconciler import backlog_plan
from reconciler.backlogs import BulkDetails
from reconciler.plan import PullRules
from reconciler.refetching import Refetching
from reconciler.replay_budget import BudgetLook
from reconciler.replay_orders import OrderFetching
from reconciler.replays import Replays
from reconciler.requests import SignalReader
from reconciler.service import Reconciler
from topsync.base import settings, telemetry
from topsync.base.service import Lifetime
from topsync.base.settings import (
    BudgetSettings,
    CoverageSettings,
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
    own, cover = settings.load(ReconcilerSettings), settings.load(CoverageSettings)
    budget, share = settings.load(BudgetSettings), settings.load(SessionSettings).session_refresh_share
    schemes = settings.load(SchemeSettings)
    vault, list_rules = parts.vault(), platform.list_rules(Kind.ORDER)
    kafka, registry = await parts.open_topics()
    async with (
        parts.open_pool() as pool,
        opening.open_platform(platform, pool) as (opened, clock),
        parts.open_sessions(platform, pool, clock, vault) as sessions,
        parts.open_producer(kafka) as producer,
    ):
        puller = parts.puller(platform, opened, pool, clock, producer, registry)
        detail_tasks = opened.detail_tasks
        if detail_tasks is None:
            log.info("the platform has no tasks of many orders: backlogs are drained by single orders")
        reconciler = Reconciler(
            settings=own,
            rules=PullRules(
                lists=list_rules,
                list_allowances=cover.list_allowances,
                sweep_interval=timedelta(seconds=own.sweep_interval_seconds),
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
                hints_at_once=math.ceil(budget.calls_per_second * own.reconcile_poll_seconds),
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
                orders=OrderFetching(
                    pool=pool,
                    producer=producer,
                    topics=registry,
                    clock=clock,
                    calls_per_second=budget.calls_per_second,
                    at_once=own.reconcile_parallel_sellers,
                    stored_within_seconds=cover.stored_within_seconds,
                ),
                budget=BudgetLook(pool, budget.limits),
                pieces_at_once=own.reconcile_parallel_sellers,
            ),
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
