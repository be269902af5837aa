"""The status of the installation for `topsync status`: what the database and Kafka know.

No statement here reads a table that grows with the orders: sellers, their ledgers and open gaps are read
whole, everything else up to a bound.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from aiokafka.errors import GroupCoordinatorNotAvailableError

from topsync.base import live_calendar, settings
from topsync.base.errors import OperatorError
from topsync.base.settings import (
    AnomalySettings,
    CircuitSettings,
    CoverageSettings,
    EnricherSettings,
    KafkaSettings,
    ReconcilerSettings,
    SchemeSettings,
)
from topsync.budget.circuit import Circuit, CircuitState
from topsync.model.anomaly import Anomaly
from topsync.model.calendar import Calendar
from topsync.model.call_limits import CallLimits
from topsync.model.scheme import Scheme
from topsync.operate import pulling_status, republish_command, trends
from topsync.operate.pulling_status import SweepStatus, VisibilityStatus
from topsync.operate.trends import Marks, Trend
from topsync.sellers import schemes, status
from topsync.sellers.status import SellerStatus
from topsync.store import activity, anomalies, api_calls, call_budget, circuits, push_connections, standings
from topsync.store.activity import Process
from topsync.store.call_budget import Ban
from topsync.store.database import Pool
from topsync.store.push_connections import PushConnection
from topsync.store.sellers import SellerState
from topsync.store.standings import BulkStart, OpenLetters, WaitingOrders
from topsync.stream import topics
from topsync.stream.group_progress import group_progress
from topsync.stream.producer import PublishError

SERVICES: Final = ("push", "enrich", "reconcile")
"""Services that must run, push where a seller's scheme has messages; the others are jobs, or only watch."""

LATE_AFTER_PULLS: Final = 2
"""Polls and sweeps are late where so many in a row have proven nothing: one may fail, or wait for the
writers."""

KAFKA_SECONDS: Final = 10.0
"""How long Kafka may take: the status should say that Kafka is away, not wait for it."""

BETWEEN_LOOKS_SECONDS: Final = 2.0
"""Between two looks that show whether what waits gets less."""


@dataclass(frozen=True, slots=True)
class EnricherGroup:
    """The consumer group of the enrichers, as Kafka sees it."""

    name: str
    members: int
    lag: Mapping[str, int]
    """Records that are not processed, by topic."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The status of the installation, or of one seller. Times are platform time unless stated otherwise."""

    processes: list[Process]
    push: list[PushConnection]
    """The connections that are up."""
    last_push: PushConnection | None
    """The connection that worked last, up or not."""
    enrichers: EnricherGroup | None
    kafka_problem: str | None
    """Why nothing is known about the enrichers' group."""
    waiting: Sequence[WaitingOrders]
    """Orders to be asked for again."""
    letters: Sequence[OpenLetters]
    """Dead letters about orders that nobody has dealt with."""
    bulk_starts: Sequence[BulkStart]
    """Those under way."""
    limits: CallLimits
    spent_today: int
    bans: list[Ban]
    circuits: list[Circuit]
    """Those that are not closed: pulls are held back."""
    calendar: Calendar
    calendar_problem: str | None
    """Why its file is not in force. Services go on with what they have read before."""
    visibility: VisibilityStatus
    sweeps: SweepStatus | None
    """None where nobody is swept."""
    calls: Mapping[str, int]
    lost: list[str]
    """Sentences: what is wrong with the compacted topics."""
    republication: str | None
    """The one that is under way, in words."""
    sellers: Sequence[SellerStatus]
    """Those that are not erased; their orders are not counted."""
    scheme: Scheme
    """The installation's."""
    poll_interval: timedelta
    polls_are_late_after: timedelta
    """Polls of a seller whose proof ends longer ago than this are late."""
    sweeps_are_late_after: timedelta | None
    """The same for sweeps; None where they are switched off."""
    push_is_needed: bool
    """Whether any seller needs a push connection."""
    now: datetime
    """By this machine's clock."""
    anomalies: Sequence[Anomaly] = ()
    """Those that last, and that somebody is to hear of."""
    trends: Mapping[str, Trend] = field(default_factory=dict)
    """What waits, by name, and whether it gets less: `lag in …`, `waiting`, `parked`, `open gaps`."""

    @property
    def services(self) -> list[str]:
        """The services that must run."""
        return [service for service in SERVICES if service != "push" or self.push_is_needed]

    @property
    def running(self) -> dict[str, int]:
        """How many processes of each service run, with a 0 for each service that must run and does not."""
        return dict.fromkeys(self.services, 0) | Counter(process.service for process in self.processes)

    @property
    def waiting_by_reason(self) -> dict[str, int]:
        """How many orders wait, by reason."""
        counted: Counter[str] = Counter()
        for each in self.waiting:
            counted[each.reason] += each.orders
        return dict(counted)

    def marks(self, at_seconds: float) -> Marks:
        """What waits at this look."""
        counts = {
            "waiting": sum(each.orders for each in self.waiting if not each.parked),
            "parked": sum(each.orders for each in self.waiting if each.parked),
            "open gaps": sum(len(stands.open_gaps) for stands in self.sellers),
        }
        if self.enrichers is not None:
            counts |= {f"lag in {topic}": records for topic, records in self.enrichers.lag.items()}
        return Marks(counts, at_seconds)


async def look(pool: Pool, seller_id: int | None = None) -> Overview:
    """Read everything once; of one seller only, where that is asked for."""
    silent_for = timedelta(seconds=settings.load(ReconcilerSettings).push_lost_after_seconds)
    own, cover, now = settings.load(SchemeSettings), settings.load(CoverageSettings), datetime.now(UTC)
    known = await circuits.all_of(pool)
    not_closed = [each for each in known.values() if each.state is not CircuitState.CLOSED]
    poll_interval = own.poll_interval
    if not_closed:
        poll_interval = max(poll_interval, settings.load(CircuitSettings).pull_interval)
    calendar, calendar_problem = calendar_now()
    calendar = await pulling_status.with_learned(pool, calendar)
    enrichers, problem = await _enrichers()
    found = [
        stands
        for stands in await status.of_all(pool, only=seller_id, counting_orders=seller_id is not None)
        if stands.seller.state is not SellerState.ERASED
    ]
    allowance = calendar.visibility_allowance(now)
    stored_within = timedelta(seconds=cover.stored_within_seconds)
    sweeps_every = calendar.at(now).sweep_interval
    if not_closed and sweeps_every:
        sweeps_every = max(sweeps_every, settings.load(CircuitSettings).pull_interval)
    swept = [
        stands.seller.seller_id
        for stands in found
        if stands.proven_to is not None
        and not is_held_up(stands)
        and not schemes.is_polled(stands.seller, own.scheme)
    ]
    return Overview(
        processes=[process for process in await activity.processes(pool) if process.service != "command"],
        push=await push_connections.up(pool, silent_for=silent_for),
        last_push=await push_connections.last(pool),
        enrichers=enrichers,
        kafka_problem=problem,
        waiting=await standings.waiting(pool, seller_id),
        letters=await standings.letters(pool, seller_id),
        bulk_starts=await standings.bulk_starts(pool, seller_id),
        limits=calendar.at(now).limits,
        spent_today=await call_budget.spent_today(pool),
        bans=await call_budget.bans(pool),
        circuits=not_closed,
        calendar=calendar,
        calendar_problem=calendar_problem,
        visibility=await pulling_status.visibility_status(pool, calendar, now),
        sweeps=await pulling_status.sweep_status(pool, swept, sweeps_every, now),
        calls=await api_calls.by_api(pool),
        lost=await republish_command.losses(pool),
        republication=await republish_command.under_way(pool),
        sellers=found,
        scheme=own.scheme,
        poll_interval=poll_interval,
        polls_are_late_after=allowance + LATE_AFTER_PULLS * poll_interval + stored_within,
        sweeps_are_late_after=allowance + LATE_AFTER_PULLS * sweeps_every + stored_within
        if sweeps_every
        else None,
        push_is_needed=schemes.needs_push([stands.seller for stands in found], own.scheme),
        now=now,
        anomalies=await _anomalies(pool, seller_id),
    )


async def _anomalies(pool: Pool, seller_id: int | None) -> list[Anomaly]:
    own = settings.load(AnomalySettings)
    return [each for each in await anomalies.lasting(pool, seller_id) if own.concerns(each.kind, each.name)]


def calendar_now() -> tuple[Calendar, str | None]:
    """The sale-day calendar and, where its file is wrong, the problem with the calendar of ordinary days."""
    try:
        return live_calendar.configured()(), None
    except settings.SettingsError as error:
        return Calendar(live_calendar.usual()), str(error)


async def look_twice(pool: Pool, seller_id: int | None = None) -> Overview:
    """Look twice, a moment apart, so that it can be said whether what waits gets less."""
    before = (await look(pool, seller_id)).marks(time.monotonic())
    await asyncio.sleep(BETWEEN_LOOKS_SECONDS)
    return await look_again(pool, before, seller_id)


async def look_again(pool: Pool, before: Marks | None, seller_id: int | None = None) -> Overview:
    """Look once more, and compare with the look before."""
    seen = await look(pool, seller_id)
    return replace(seen, trends=trends.compare(before, seen.marks(time.monotonic())))


async def _enrichers() -> tuple[EnricherGroup | None, str | None]:
    """What Kafka knows; when it is away, the reason, so that all the rest can still be shown."""
    group = settings.load(EnricherSettings).enricher_group
    try:
        kafka = settings.load(KafkaSettings)
        async with asyncio.timeout(KAFKA_SECONDS):
            registry = await topics.require(kafka)
            async with group_progress(kafka, group, [registry.changes, registry.snapshots]) as progress:
                return EnricherGroup(group, await progress.members(), await progress.lag()), None
    except GroupCoordinatorNotAvailableError:
        return None, f"nobody has been in the group {group} yet, or Kafka is just starting"
    except TimeoutError:
        return None, f"{topics.SERVER} does not answer within {KAFKA_SECONDS:g} s"
    except (OperatorError, PublishError, OSError) as error:
        return None, str(error) or type(error).__name__


def is_held_up(stands: SellerStatus) -> bool:
    """Whether nothing of a seller is pulled: then it says nothing that no gap is open."""
    return stands.seller.state in (SellerState.EXPIRED, SellerState.PAUSED)
