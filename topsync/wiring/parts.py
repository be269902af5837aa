"""Putting the parts of a process together: pool, clock, gateway client, producers, from the settings."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from schemas import platform_time
from topsync.base import metrics, retry, settings, starts, telemetry
from topsync.base.clock import ServerClock
from topsync.base.errors import first_of, reaching
from topsync.base.outages import Outage
from topsync.base.settings import (
    AuthorisationSettings,
    BudgetSettings,
    CoverageSettings,
    DatabaseSettings,
    EnricherSettings,
    KafkaSettings,
    PlatformSettings,
    VaultSettings,
)
from topsync.base.vault import Vault
from topsync.budget.errors import CallLimitedError
from topsync.budget.gate import BudgetGate, GateConfig
from topsync.coverage.pull import Puller
from topsync.model import linger
from topsync.model.linger import LingerTimes
from topsync.platforms.port import PLATFORM_FAILURES, ListRules, PlatformAwayError
from topsync.platforms.session_port import TimeSource
from topsync.platforms.taobao import linger as taobao_linger
from topsync.platforms.taobao import lists
from topsync.platforms.taobao.details import TaobaoDetails
from topsync.platforms.taobao.gateway.client import CallRecord, GatewayConfig, TopClient
from topsync.platforms.taobao.gateway.oauth import OAuthClient, OAuthConfig
from topsync.platforms.taobao.gateway.sign import SignMethod
from topsync.platforms.taobao.gateway.transport import HttpConfig
from topsync.platforms.taobao.lists import TaobaoLists
from topsync.platforms.taobao.sessions import TaobaoGrants
from topsync.sellers.session_refresh import SessionRefresher
from topsync.sellers.sessions import Sessions
from topsync.store import api_calls, database, schema, shared_budget
from topsync.store.api_calls import Call
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.stream import producer as producers
from topsync.stream import topics
from topsync.stream.producer import Producer
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

T = TypeVar("T")

CLOCK_REFINEMENTS = 8
"""Questions for the time after the first, each halving the uncertainty of a second: to about 4 ms."""

GATEWAY = "the platform's gateway (TOPSYNC_GATEWAY_URL)"
GATEWAY_AWAY = (PlatformAwayError, CallLimitedError)
"""What asking for the platform's time raises while the platform is away, or closed to us."""

CLOCK_REFRESH_SECONDS = 60.0
CALLS_WRITTEN_EVERY_SECONDS = 1.0


def check_settings() -> None:
    """Read what a process's parts read for themselves later: a wrong setting stops it before it waits."""
    settings.load(KafkaSettings)
    settings.load(DatabaseSettings)
    settings.load(PlatformSettings)
    settings.load(BudgetSettings)
    settings.load(CoverageSettings)
    linger_times()


@asynccontextmanager
async def open_pool() -> AsyncIterator[Pool]:
    """The database, with its schema checked; waits a little for one that is just starting.

    Raises:
        UnreachableError: it is away, or refuses us; also where it was lost later, and nobody waited for it.
    """
    own = settings.load(DatabaseSettings)
    await _reach_database(lambda: _check_schema(own))
    async with database.connect(own, _database_now) as pool:
        try:
            yield pool
        except* database.LOST_ERRORS as lost:
            with reaching(database.SERVER, database.LOST_ERRORS):
                raise first_of(lost) from None


async def _reach_database(call: Callable[[], Awaitable[T]]) -> T:
    """Use the database as a process does at its start; waits a little for one that is just starting.

    Raises:
        UnreachableError: it is away, takes no writes, or refuses us.
    """
    return await starts.reach(
        database.SERVER, call, outages=OUTAGE_ERRORS, refusals=database.REFUSALS, may_come=database.may_come
    )


def _database_now() -> DatabaseSettings:
    return settings.load(DatabaseSettings)


async def _check_schema(own: DatabaseSettings) -> None:
    async with database.connect(own) as pool:
        await schema.require_schema(pool)


async def open_topics(*, draining: bool = False) -> tuple[KafkaSettings, Registry]:
    """The topics as the cluster has them; waits a little for a cluster that is just starting.

    Raises:
        UnreachableError: the cluster is away, or refuses us.
        TopicsError, LayoutError: see `topics.require`.
    """
    own = settings.load(KafkaSettings)
    registry = await starts.reach(
        topics.SERVER, lambda: topics.require(own, draining=draining), outages=topics.OUTAGES
    )
    return own, registry


def open_producer(kafka: KafkaSettings) -> AbstractAsyncContextManager[Producer]:
    """A producer of a process's own; waits a little for a cluster that has just gone away."""
    return starts.opened(topics.SERVER, lambda: producers.idempotent(kafka), outages=topics.OUTAGES)


@asynccontextmanager
async def open_gateway(
    pool: Pool, *, retries: retry.Policy | None = None, waits: bool = True
) -> AsyncIterator[tuple[TopClient, ServerClock]]:
    """The gateway client and the platform's clock, set; `retries` in place of the client's own policy.

    Calls keep to the budget that all processes share, and are counted into metrics and the database.

    Raises:
        UnreachableError: the platform is away, or has closed itself to us; where this `waits`, for too long.
    """
    own, budget = settings.load(PlatformSettings), settings.load(BudgetSettings)
    clock = ServerClock(doubt_seconds=own.clock_doubt_seconds)
    tally = _Tally(pool, clock)
    config = GatewayConfig(
        url=str(own.gateway_url),
        app_key=own.app_key,
        app_secret=own.app_secret,
        sign_method=SignMethod(own.sign_method),
        http=HttpConfig(max_connections=own.calls_in_flight),
    )
    if retries is not None:
        config = replace(config, retries=retries)
    async with AsyncExitStack() as stack:
        book = await _reach_database(
            lambda: stack.enter_async_context(
                shared_budget.open_book(_database_now(), pool, budget.limits, _database_now)
            )
        )
        gate = BudgetGate(book, GateConfig(max_in_flight=own.calls_in_flight))
        client = await stack.enter_async_context(TopClient(config, clock, gate, observer=tally.note))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        await _set_clock(client, waits=waits)
        background = [
            tasks.create_task(_keep_clock(client, clock)),
            tasks.create_task(tally.write_for_ever()),
        ]
        try:
            yield client, clock
        finally:
            for task in background:
                task.cancel()
            with suppress(*OUTAGE_ERRORS):
                await tally.write()


async def _set_clock(source: TimeSource, *, waits: bool) -> None:
    await starts.reach(
        GATEWAY,
        source.sync_clock,
        outages=GATEWAY_AWAY,
        may_come=lambda error: waits and isinstance(error, PlatformAwayError),
    )


def oauth_config() -> OAuthConfig:
    """Where sellers authorise, and who we are there."""
    own, platform = settings.load(AuthorisationSettings), settings.load(PlatformSettings)
    redirect_url = own.oauth_redirect_url
    return OAuthConfig(
        url=str(own.oauth_url),
        app_key=platform.app_key,
        app_secret=platform.app_secret,
        redirect_url=None if redirect_url is None else str(redirect_url),
    )


def vault() -> Vault:
    """What opens the stored sessions."""
    return Vault(settings.load(VaultSettings))


@asynccontextmanager
async def open_sessions(
    pool: Pool, clock: ServerClock, vault: Vault, config: OAuthConfig
) -> AsyncIterator[Sessions]:
    """The sellers' sessions, refreshed where they can be."""
    async with OAuthClient(config) as oauth:
        yield Sessions(pool, vault, SessionRefresher(pool, vault, TaobaoGrants(oauth), clock))


async def _keep_clock(source: TimeSource, clock: ServerClock) -> None:
    for number in itertools.count():
        await asyncio.sleep(clock.seconds_until_informative())
        if number >= CLOCK_REFINEMENTS:
            await asyncio.sleep(CLOCK_REFRESH_SECONDS)
        try:
            await source.sync_clock()
        except PLATFORM_FAILURES as error:
            log.warning("cannot ask for the platform's time; keeping the last", error=str(error))


class _Tally:
    """Counts calls, and adds them to the database now and then; what a crash takes with it is a second's."""

    def __init__(self, pool: Pool, clock: ServerClock) -> None:
        self._pool = pool
        self._clock = clock
        self._counts: Counter[Call] = Counter()

    def note(self, record: CallRecord) -> None:
        priority, outcome = record.priority.label, record.outcome.value
        metrics.API_CALLS.labels(record.api, priority, outcome).inc()
        metrics.API_SECONDS.labels(record.api).observe(record.seconds)
        if self._clock.is_set:
            self._counts[Call(platform_time.day_of(self._clock.now()), record.api, priority, outcome)] += 1

    async def write_for_ever(self) -> None:
        outage, pause_seconds = Outage("cannot write the call counts down"), CALLS_WRITTEN_EVERY_SECONDS
        while True:
            await asyncio.sleep(pause_seconds)
            try:
                await self.write()
            except OUTAGE_ERRORS as error:
                pause_seconds = outage.failed(error)
            else:
                outage.over()
                pause_seconds = CALLS_WRITTEN_EVERY_SECONDS

    async def write(self) -> None:
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            await api_calls.add(self._pool, counts)
        except OUTAGE_ERRORS:
            self._counts += counts
            raise


def puller(
    pool: Pool, client: TopClient, clock: ServerClock, producer: Producer, registry: Registry
) -> Puller:
    """The engine that pulls spans, as configured."""
    return Puller(
        pool=pool,
        lists=TaobaoLists(client),
        details=TaobaoDetails(client),
        clock=clock,
        producer=producer,
        changes_topic=registry.changes.name,
        settings=settings.load(CoverageSettings),
        detail_lag=detail_lag(),
        kinds=settings.load(PlatformSettings).kinds,
    )


def order_list_rules() -> ListRules:
    """What the platform's list of orders can be asked."""
    return lists.RULES


def linger_times() -> LingerTimes:
    """How long messages may wait for others of their order.

    Raises:
        SettingsError: the setting names no messages of the platform, or no waits.
    """
    try:
        return linger.parse(settings.load(EnricherSettings).linger, taobao_linger.WORDS)
    except ValueError as error:
        raise settings.wrong(EnricherSettings, "linger", str(error)) from None


def detail_lag() -> timedelta:
    """How long the platform's detail may trail a change."""
    return timedelta(seconds=settings.load(EnricherSettings).detail_lag_allowance_seconds)
