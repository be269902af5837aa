"""The reconciler, put together with the watch over the sellers' sessions."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler import backlog_plan
from reconciler.allowance import AllowanceWatch
from reconciler.anomalies import AnomalyNotices, AnomalyWatch
from reconciler.anomaly_judge import AnomalyJudge
from reconciler.backlogs import BulkDetails
from reconciler.circuits import CircuitJudge, PullBrake
from reconciler.comparing import NightlyComparison
from reconciler.duties import Duties, Duty
from reconciler.measuring import Lag, Measuring
from reconciler.membership import Membership
from reconciler.plan import PullRules
from reconciler.pulls import Pulls
from reconciler.push_watch import PushWatch
from reconciler.refetching import Refetching
from reconciler.replay_budget import BudgetLook
from reconciler.replay_orders import OrderFetching
from reconciler.replays import CancelledReplays, Replays
from reconciler.requests import SignalReader
from reconciler.retention import Retention
from reconciler.service import Reconciler
from reconciler.turns import PullTurns
from reconciler.under_way import UnderWay
from topsync.base import live_calendar, settings, telemetry
from topsync.base.clock import ServerClock
from topsync.base.live_calendar import LiveCalendar
from topsync.base.service import Lifetime
from topsync.base.settings import (
    AnomalySettings,
    BudgetSettings,
    CircuitSettings,
    ComparisonSettings,
    CoverageSettings,
    EnricherSettings,
    KafkaSettings,
    ReconcilerSettings,
    RetentionSettings,
    SchemeSettings,
    SessionSettings,
)
from topsync.coverage.pull import Puller
from topsync.model.kind import Kind
from topsync.platforms.platform_port import OpenPlatform, OrderPlatform
from topsync.sellers.session_watch import SessionWatch
from topsync.sellers.sessions import Sessions
from topsync.store.database import Pool
from topsync.stream.group_progress import group_progress
from topsync.stream.producer import Producer
from topsync.stream.topics import Registry
from topsync.verify.reports import Reports
from topsync.wiring import opening, parts, platforms

log = telemetry.get_logger(__name__)


@parts.with_rights
async def run(lifetime: Lifetime) -> None:
    """The reconciler: pulls and duties; beside it the watch over sessions, and the reader of signals."""
    platform = platforms.chosen()
    parts.check_settings(platform)
    own, schemes = settings.load(ReconcilerSettings), settings.load(SchemeSettings)
    budget, retention = settings.load(BudgetSettings), settings.load(RetentionSettings)
    kept = retention.kept(settings.load(KafkaSettings))
    circuit, comparison = settings.load(CircuitSettings), settings.load(ComparisonSettings)
    anomaly = settings.load(AnomalySettings)
    enricher, cover = settings.load(EnricherSettings), settings.load(CoverageSettings)
    share = settings.load(SessionSettings).session_refresh_share
    vault, calendar = parts.vault(), live_calendar.configured()
    kafka, registry = await parts.open_topics()
    async with (
        parts.open_pool() as pool,
        opening.open_platform(platform, pool, calendar=calendar) as (opened, clock),
        parts.open_sessions(platform, pool, clock, vault) as sessions,
        parts.open_producer(kafka) as producer,
    ):
        puller = parts.puller(platform, opened, pool, clock, producer, registry, calendar)
        made = _Parts(
            platform=platform,
            opened=opened,
            pool=pool,
            clock=clock,
            sessions=sessions,
            producer=producer,
            registry=registry,
            puller=puller,
            calendar=calendar,
            own=own,
            schemes=schemes,
        )
        within = puller.settings.stored_within_seconds
        replays = [made.replays(budget, small=small, stored_within_seconds=within) for small in (True, False)]

        async def hand_back() -> None:
            for each in replays:
                await each.hand_back()

        # Each is done by one process at a time; the names are those of their leases.
        duties: dict[str, list[Duty]] = {
            "push": [made.push_watch()],
            "refetches": [made.refetching()],
            "backlog": [made.backlog(budget, enricher.backlog_changes)],
            "replays": [*replays, CancelledReplays(replays)],
            "circuits": [CircuitJudge(pool, lambda: calendar().at(clock.now()).circuit)],
            "comparison": [made.comparison(comparison)],
            "allowance": [made.allowance_watch()],
            "anomalies": [made.anomalies(anomaly)],
            "retention": [Retention(pool, clock, kept, retention.retention_interval_seconds)],
            "measures": [made.measuring(kafka, enricher.enricher_group, cover.stored_within_seconds)],
        }
        woken = asyncio.Event()
        reconciler = Reconciler(
            pool=pool,
            membership=Membership(pool, duties, own.reconcile_calm_seconds),
            pulls=made.pulls(PullBrake(circuit.pull_interval, platform.pull_apis), woken),
            duties=Duties(duties, UnderWay(woken.set)),
            hand_back=hand_back,
            poll_seconds=own.reconcile_poll_seconds,
            woken=woken,
        )
        reader = SignalReader(kafka, registry, pool, producer, clock, platform.list_rules(Kind.ORDER))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reconciler.run(lifetime))
            tasks.create_task(made.session_watch(share).run(lifetime))
            tasks.create_task(reader.run(lifetime))


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the reconciler's parts are made from."""

    platform: OrderPlatform
    opened: OpenPlatform
    pool: Pool
    clock: ServerClock
    sessions: Sessions
    producer: Producer
    registry: Registry
    puller: Puller
    calendar: LiveCalendar
    own: ReconcilerSettings
    schemes: SchemeSettings

    def pulls(self, brake: PullBrake, woken: asyncio.Event) -> Pulls:
        """The pulls of sellers."""
        return Pulls(
            rules=self._pull_rules,
            brake=brake,
            pool=self.pool,
            puller=self.puller,
            sessions=self.sessions,
            clock=self.clock,
            scheme=self.schemes.scheme,
            under_way=UnderWay(woken.set),
            turns=PullTurns(self.own.reconcile_parallel_sellers, self.own.reconcile_waiting_sellers),
            learn=lambda learned: self.calendar.learn(self.puller.settings.learning.in_force(learned)),
        )

    def allowance_watch(self) -> AllowanceWatch:
        """The watch over the visibility allowance that is learnt."""
        return AllowanceWatch(
            pool=self.pool,
            producer=self.producer,
            clock=self.clock,
            notifications_topic=self.registry.notifications.name,
            rules=self.puller.settings.learning,
            usual=self.calendar().usual.visibility,
        )

    def _pull_rules(self, now: datetime) -> PullRules:
        calendar = self.calendar()
        return PullRules(
            lists=self.platform.list_rules(Kind.ORDER),
            calendar=calendar,
            sweep_interval=calendar.at(now).sweep_interval,
            poll_interval=self.schemes.poll_interval,
            gap_retry=timedelta(seconds=self.own.gap_retry_seconds),
        )

    def push_watch(self) -> PushWatch:
        """The watch over the push connections."""
        return PushWatch(
            pool=self.pool,
            clock=self.clock,
            scheme=self.schemes.scheme,
            silent_for=timedelta(seconds=self.own.push_lost_after_seconds),
            poll_seconds=self.own.reconcile_poll_seconds,
        )

    def refetching(self) -> Refetching:
        """Second questions for orders."""
        return Refetching(
            pool=self.pool,
            producer=self.producer,
            topics=self.registry,
            clock=self.clock,
            max_attempts=self.own.refetch_attempts,
            hints_at_once=lambda: math.ceil(self._calls_per_second() * self.own.reconcile_poll_seconds),
        )

    def _calls_per_second(self) -> float:
        return self.calendar().at(self.clock.now()).limits.calls_per_second

    def backlog(self, budget: BudgetSettings, backlog_changes: int) -> BulkDetails:
        """The draining of backlogs."""
        tasks = self.opened.detail_tasks
        if tasks is None:
            log.info("the platform has no tasks of many orders: backlogs are drained by single orders")
        return BulkDetails(
            pool=self.pool,
            producer=self.producer,
            topics=self.registry,
            tasks=tasks,
            clock=self.clock,
            sessions=self.sessions,
            rules=backlog_plan.BacklogRules(
                from_seconds=self.own.bulk_from_seconds,
                tasks_at_once=self.own.bulk_tasks,
                calls_per_second=budget.calls_per_second,
                backlog_changes=backlog_changes,
                orders_per_task=0 if tasks is None else tasks.max_orders,
            ),
            poll_seconds=self.own.bulk_poll_seconds,
            deadline_seconds=self.own.bulk_deadline_seconds,
        )

    def replays(self, budget: BudgetSettings, *, small: bool, stored_within_seconds: float) -> Replays:
        """The replays that somebody asked for, the small or the others."""
        return Replays(
            pool=self.pool,
            puller=self.puller,
            sessions=self.sessions,
            clock=self.clock,
            notifications_topic=self.registry.notifications.name,
            calls_per_second=budget.calls_per_second,
            orders=OrderFetching(
                pool=self.pool,
                producer=self.producer,
                topics=self.registry,
                clock=self.clock,
                calls_per_second=budget.calls_per_second,
                at_once=self.own.reconcile_parallel_sellers,
                stored_within_seconds=stored_within_seconds,
            ),
            budget=BudgetLook(self.pool, budget.limits),
            pieces_at_once=self.own.reconcile_parallel_sellers,
            small=small,
        )

    def comparison(self, own: ComparisonSettings) -> NightlyComparison:
        """The nightly comparison with the platform."""
        return NightlyComparison(
            pool=self.pool,
            comparison=parts.comparison(self.opened, self.pool, self.puller, self.sessions),
            sessions=self.sessions,
            reports=Reports(self.pool, self.producer, self.registry.notifications.name),
            clock=self.clock,
            hours=own.hours,
        )

    def anomalies(self, own: AnomalySettings) -> AnomalyWatch:
        """What judges anomalies, and notifies them."""
        topic = self.registry.notifications.name
        return AnomalyWatch(
            AnomalyJudge(self.pool, self.clock, own.silence, own.rise, self.calendar, self.schemes.scheme),
            AnomalyNotices(self.pool, self.producer, topic, own.concerns),
            own.anomaly_interval_seconds,
        )

    def measuring(self, kafka: KafkaSettings, group: str, stored_within_seconds: float) -> Measuring:
        """What measures the whole installation."""
        read = {"changes": self.registry.changes, "snapshots": self.registry.snapshots}

        async def lag() -> Lag:
            async with group_progress(kafka, group, list(read.values())) as progress:
                found = await progress.lag_with_ages()
            return {word: found[topic.name] for word, topic in read.items()}

        return Measuring(
            pool=self.pool,
            clock=self.clock,
            rules=lambda now: self.calendar().at(now),
            poll_interval=self.schemes.poll_interval,
            stored_within=timedelta(seconds=stored_within_seconds),
            lag=lag,
            interval_seconds=self.own.measure_interval_seconds,
        )

    def session_watch(self, refresh_share: float) -> SessionWatch:
        """The watch over the sellers' sessions."""
        return SessionWatch(
            pool=self.pool,
            sessions=self.sessions,
            subscriptions=self.opened.subscriptions,
            clock=self.clock,
            producer=self.producer,
            notifications_topic=self.registry.notifications.name,
            refresh_share=refresh_share,
            scheme=self.schemes.scheme,
            push_silent_for=timedelta(seconds=self.own.push_lost_after_seconds),
        )
