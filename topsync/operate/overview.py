"""The status of the installation for `topsync status`: what the database and Kafka know."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aiokafka.errors import GroupCoordinatorNotAvailableError

from schemas import platform_time
from topsync.base import live_calendar, settings
from topsync.base.errors import OperatorError
from topsync.base.settings import (
    CircuitSettings,
    CoverageSettings,
    EnricherSettings,
    KafkaSettings,
    ReconcilerSettings,
    SchemeSettings,
)
from topsync.budget.circuit import Circuit, CircuitState
from topsync.model.calendar import Calendar
from topsync.model.call_limits import CallLimits
from topsync.model.scheme import Scheme
from topsync.operate import republish_command
from topsync.sellers import schemes, session_rules, status
from topsync.sellers.status import SellerStatus
from topsync.store import activity, api_calls, call_budget, circuits, push_connections, refetches
from topsync.store.activity import Process
from topsync.store.call_budget import Ban
from topsync.store.database import Pool
from topsync.store.push_connections import PushConnection
from topsync.store.sellers import SellerState
from topsync.stream import topics
from topsync.stream.group_progress import group_progress
from topsync.stream.producer import PublishError

SERVICES: Final = ("push", "enrich", "reconcile")
"""Services that must run, push where a seller's scheme has messages; the others are jobs, or only watch."""

LATE_AFTER_POLLS: Final = 2
"""Polls are late where so many in a row have proven nothing: one may fail, or wait for the writers."""

KAFKA_SECONDS: Final = 10.0
"""How long Kafka may take: the status should say that Kafka is away, not wait for it."""


@dataclass(frozen=True, slots=True)
class EnricherGroup:
    """The consumer group of the enrichers, as Kafka sees it."""

    name: str
    members: int
    lag: Mapping[str, int]
    """Records that are not processed, by topic."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The status of the installation. Times are platform time unless stated otherwise."""

    processes: list[Process]
    push: list[PushConnection]
    """The connections that are up."""
    last_push: PushConnection | None
    """The connection that worked last, up or not."""
    enrichers: EnricherGroup | None
    kafka_problem: str | None
    """Why nothing is known about the enrichers' group."""
    waiting: Mapping[str, int]
    """Orders to be asked for again, by reason."""
    limits: CallLimits
    spent_today: int
    bans: list[Ban]
    circuits: list[Circuit]
    """Those that are not closed: pulls are held back."""
    calendar: Calendar
    calendar_problem: str | None
    """Why its file is not in force. Services go on with what they have read before."""
    calls: Mapping[str, int]
    lost: list[str]
    """Sentences: what is wrong with the compacted topics, and what is being done about it."""
    sellers: list[SellerStatus]
    scheme: Scheme
    """The installation's."""
    poll_interval: timedelta
    polls_are_late_after: timedelta
    """Polls of a seller whose proof ends longer ago than this are late."""
    now: datetime
    """By this machine's clock."""

    @property
    def needs_push(self) -> bool:
        """Whether a push connection is needed."""
        return schemes.needs_push([stands.seller for stands in self.sellers], self.scheme)

    @property
    def services(self) -> list[str]:
        """The services that must run."""
        return [service for service in SERVICES if service != "push" or self.needs_push]

    @property
    def running(self) -> dict[str, int]:
        """How many processes of each service run, with a 0 for each service that must run and does not."""
        return dict.fromkeys(self.services, 0) | Counter(process.service for process in self.processes)


async def look(pool: Pool) -> Overview:
    """Read everything once."""
    silent_for = timedelta(seconds=settings.load(ReconcilerSettings).push_lost_after_seconds)
    own, cover, now = settings.load(SchemeSettings), settings.load(CoverageSettings), datetime.now(UTC)
    known = await circuits.all_of(pool)
    not_closed = [each for each in known.values() if each.state is not CircuitState.CLOSED]
    poll_interval = own.poll_interval
    if not_closed:
        poll_interval = max(poll_interval, settings.load(CircuitSettings).pull_interval)
    calendar, calendar_problem = _calendar()
    enrichers, problem = await _enrichers()
    return Overview(
        processes=[process for process in await activity.processes(pool) if process.service != "command"],
        push=await push_connections.up(pool, silent_for=silent_for),
        last_push=await push_connections.last(pool),
        enrichers=enrichers,
        kafka_problem=problem,
        waiting=await refetches.waiting(pool),
        limits=calendar.at(now).limits,
        spent_today=await call_budget.spent_today(pool),
        bans=await call_budget.bans(pool),
        circuits=not_closed,
        calendar=calendar,
        calendar_problem=calendar_problem,
        calls=await api_calls.by_api(pool),
        lost=await republish_command.findings(pool),
        sellers=await status.of_all(pool),
        scheme=own.scheme,
        poll_interval=poll_interval,
        polls_are_late_after=calendar.visibility_allowance(now)
        + LATE_AFTER_POLLS * poll_interval
        + timedelta(seconds=cover.stored_within_seconds),
        now=now,
    )


def _calendar() -> tuple[Calendar, str | None]:
    """The sale-day calendar and, where its file is wrong, the problem with the calendar of ordinary days."""
    try:
        return live_calendar.configured()(), None
    except settings.SettingsError as error:
        return Calendar(live_calendar.usual()), str(error)


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


def problems(seen: Overview) -> list[str]:
    """Problems that need an operator, a line each. Pure."""
    found = [
        f"no process of `topsync {service}` is running"
        for service in seen.services
        if not seen.running[service]
    ]
    if not seen.push and seen.needs_push:
        found.append(f"push is down: {_last_push(seen.last_push)}")
    if seen.kafka_problem is not None:
        found.append(f"Kafka: {seen.kafka_problem}")
    found += [
        f"the platform has closed {ban.scope} until {platform_time.format(ban.until)} (GMT+8)"
        for ban in seen.bans
    ]
    found += [
        f"too many calls fail: the circuit {each.scope} has been {each.state.replace('_', ' ')} since "
        f"{platform_time.format(each.opened_at)} (GMT+8), and pulls are held back; it closes by itself"
        for each in seen.circuits
    ]
    if seen.calendar_problem is not None:
        found.append(f"the sale-day calendar is wrong: {seen.calendar_problem}")
    return found + seen.lost + [problem for stands in seen.sellers for problem in _of_seller(stands, seen)]


def _last_push(last: PushConnection | None) -> str:
    if last is None:
        return "it was never connected"
    why = last.reason or "its process stopped writing"
    return f"its last proof of life is of {platform_time.format(last.last_proof_at)} (GMT+8), then: {why}"


def _of_seller(stands: SellerStatus, seen: Overview) -> list[str]:
    if not is_held_up(stands):
        return _late(stands, seen)
    seller = stands.seller
    since = platform_time.format(seller.since)
    problem = (
        f"{seller.name} is {seller.state} since {since} (GMT+8), and nothing of it is pulled: {seller.reason}"
    )
    if seller.state is SellerState.EXPIRED:
        problem += f"; {session_rules.what_to_do(seller, now=None)}"
    return [problem]


def _late(stands: SellerStatus, seen: Overview) -> list[str]:
    """Whether polls of a seller fail: no message and no lost connection would show it."""
    seller, proven_to = stands.seller, stands.proven_to
    if (
        seller.state is SellerState.ERASED
        or proven_to is None
        or not schemes.is_polled(seller, seen.scheme)
        or seen.now - proven_to <= seen.polls_are_late_after
    ):
        return []
    problem = (
        f"{seller.name} has no messages, and no poll has proven anything since "
        f"{platform_time.format(proven_to)} (GMT+8): is `topsync reconcile` running, and what does it log? "
        f"It polls every {seen.poll_interval.total_seconds():g} s"
    )
    return [problem]


def is_held_up(stands: SellerStatus) -> bool:
    """Whether nothing of a seller is pulled: then it says nothing that no gap is open."""
    return stands.seller.state in (SellerState.EXPIRED, SellerState.PAUSED)
