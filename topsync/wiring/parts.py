"""Putting the parts of a process together: pool, clock, gateway client, producers, from the settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from topsync.base import retry, settings, starts
from topsync.base.clock import ServerClock
from topsync.base.errors import first_of, reaching
from topsync.base.settings import (
    BudgetSettings,
    CoverageSettings,
    DatabaseSettings,
    EnricherSettings,
    KafkaSettings,
    PlatformSettings,
    TaobaoSettings,
    VaultSettings,
)
from topsync.base.vault import Vault
from topsync.budget.gate import BudgetGate, GateConfig
from topsync.coverage.pull import Puller
from topsync.model import linger
from topsync.model.linger import LingerTimes
from topsync.platforms.port import ListRules
from topsync.platforms.taobao import linger as taobao_linger
from topsync.platforms.taobao import lists
from topsync.platforms.taobao.details import TaobaoDetails
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.platforms.taobao.gateway.oauth import OAuthClient, OAuthConfig
from topsync.platforms.taobao.gateway.sign import SignMethod
from topsync.platforms.taobao.gateway.transport import HttpConfig
from topsync.platforms.taobao.lists import TaobaoLists
from topsync.platforms.taobao.sessions import TaobaoGrants
from topsync.sellers.session_refresh import SessionRefresher
from topsync.sellers.sessions import Sessions
from topsync.store import database, schema, shared_budget
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.stream import producer as producers
from topsync.stream import topics
from topsync.stream.producer import Producer
from topsync.stream.topics import Registry
from topsync.wiring import platform_clock
from topsync.wiring.call_counts import CallCounts

T = TypeVar("T")


def check_settings() -> None:
    """Read what a process's parts read for themselves later: a wrong setting stops it before it waits."""
    settings.load(KafkaSettings)
    settings.load(DatabaseSettings)
    settings.load(TaobaoSettings)
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
    taobao = settings.load(TaobaoSettings)
    clock = ServerClock(doubt_seconds=own.clock_doubt_seconds)
    counts = CallCounts(pool, clock)
    config = GatewayConfig(
        url=str(taobao.gateway_url),
        app_key=taobao.app_key,
        app_secret=taobao.app_secret,
        sign_method=SignMethod(taobao.sign_method),
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
        client = await stack.enter_async_context(TopClient(config, clock, gate, observer=counts.note))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        await platform_clock.set_at_start(client, waits=waits)
        background = [
            tasks.create_task(platform_clock.keep(client, clock)),
            tasks.create_task(counts.write_for_ever()),
        ]
        try:
            yield client, clock
        finally:
            for task in background:
                task.cancel()
            with suppress(*OUTAGE_ERRORS):
                await counts.write()


def oauth_config() -> OAuthConfig:
    """Where sellers authorise, and who we are there."""
    own = settings.load(TaobaoSettings)
    redirect_url = own.oauth_redirect_url
    return OAuthConfig(
        url=str(own.oauth_url),
        app_key=own.app_key,
        app_secret=own.app_secret,
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
        with_refunds=settings.load(PlatformSettings).refunds,
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
