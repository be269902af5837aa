"""The parts that several processes have, from the settings: database, topics, sessions, what pulls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import wraps
from typing import ParamSpec, TypeVar

from topsync.base import certificate_key, live_calendar, settings, starts, telemetry
from topsync.base.certificate_key import CertificateKey
from topsync.base.clock import ServerClock
from topsync.base.errors import OperatorError, first_of, reaching
from topsync.base.live_calendar import LiveCalendar
from topsync.base.rereading import Latest
from topsync.base.settings import (
    BudgetSettings,
    CertificateSettings,
    ComparisonSettings,
    CoverageSettings,
    DatabaseSettings,
    EnricherSettings,
    KafkaSettings,
    PlatformSettings,
    SchemeSettings,
    VaultSettings,
)
from topsync.base.vault import Vault
from topsync.coverage.created import CreatedLister
from topsync.coverage.pull import Puller
from topsync.model import linger
from topsync.model.kind import Kind
from topsync.model.linger import NO_LINGER, LingerTimes
from topsync.platforms.platform_port import OpenPlatform, OrderPlatform
from topsync.sellers.session_refresh import SessionRefresher
from topsync.sellers.sessions import Sessions
from topsync.store import database, schema
from topsync.store.database import OUTAGE_ERRORS, Address, Pool
from topsync.stream import clients, refusals, topics
from topsync.stream import producer as producers
from topsync.stream.producer import Producer
from topsync.stream.topics import Registry
from topsync.verify.comparison import PlatformComparison
from topsync.verify.day_comparison import DayComparer

log = telemetry.get_logger(__name__)

T = TypeVar("T")
P = ParamSpec("P")


def check_settings(platform: OrderPlatform) -> None:
    """Read what a process's parts read for themselves later: a wrong setting stops it before it waits.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    settings.load(KafkaSettings)
    settings.load(DatabaseSettings)
    platform.check_settings()
    settings.load(PlatformSettings)
    settings.load(BudgetSettings)
    settings.load(CoverageSettings)
    live_calendar.configured()
    settings.load(SchemeSettings)
    linger_times(platform)


class MissingRightError(OperatorError):
    """Kafka refuses a right. The text says which, and who knows what is needed."""


def with_rights(run: Callable[P, Awaitable[None]]) -> Callable[P, Coroutine[None, None, None]]:
    """A process that ends in one line where Kafka refuses it a right without which it cannot go on.

    Its supervisor starts it again: an administrator of the cluster may have given the right meanwhile.
    """

    @wraps(run)
    async def running(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await run(*args, **kwargs)
        except* refusals.RIGHTS as group:
            raise MissingRightError(refusals.lacking_right(first_of(group))) from None

    return running


def database_settings() -> DatabaseSettings:
    """Where the database is; says so where anybody on the way may be in its place."""
    own = settings.load(DatabaseSettings)
    if remote := own.unverified_hosts:
        log.warning(
            "whoever is between here and the database can read and change everything: "
            "TOPSYNC_DATABASE_UNVERIFIED allows it",
            hosts=remote,
        )
    return own


def kafka_settings() -> KafkaSettings:
    """Where Kafka is; says so where anybody on the way may read along."""
    own = settings.load(KafkaSettings)
    if remote := own.unencrypted_hosts:
        log.warning(
            "whoever is between here and Kafka can read and change everything: "
            "TOPSYNC_KAFKA_SECURITY_PROTOCOL does not encrypt",
            hosts=remote,
        )
    return own


@asynccontextmanager
async def open_pool() -> AsyncIterator[Pool]:
    """The database, with its schema checked; waits a little for one that is just starting.

    Raises:
        UnreachableError: it is away, or refuses us; also where it was lost later, and nobody waited for it.
    """
    own = database_settings()
    address = Latest(own)
    await reach_database(lambda: _check_schema(own, address))
    async with database.connect(own, address) as pool:
        try:
            yield pool
        except* database.LOST_ERRORS as lost:
            with reaching(database.SERVER, database.LOST_ERRORS):
                raise first_of(lost) from None


async def reach_database(call: Callable[[], Awaitable[T]]) -> T:
    """Use the database as a process does at its start; waits a little for one that is just starting.

    Raises:
        UnreachableError: it is away, takes no writes, or refuses us.
    """
    return await starts.reach(
        database.SERVER, call, outages=OUTAGE_ERRORS, refusals=database.REFUSALS, may_come=database.may_come
    )


async def _check_schema(own: DatabaseSettings, address: Address) -> None:
    async with database.connect(own, address) as pool:
        await schema.require_schema(pool)


async def open_topics(*, draining: bool = False) -> tuple[KafkaSettings, Registry]:
    """The topics as the cluster has them; waits a little for a cluster that is just starting.

    Raises:
        UnreachableError: the cluster is away, or refuses us.
        TopicsError, LayoutError: see `topics.require`.
    """
    own = kafka_settings()
    registry = await starts.reach(
        topics.SERVER,
        lambda: topics.require(own, draining=draining),
        outages=topics.OUTAGES,
        may_come=clients.may_come,
    )
    return own, registry


def open_producer(kafka: KafkaSettings) -> AbstractAsyncContextManager[Producer]:
    """A producer of a process's own; waits a little for a cluster that has just gone away."""
    return starts.opened(
        topics.SERVER, lambda: producers.idempotent(kafka), outages=topics.OUTAGES, may_come=clients.may_come
    )


def vault() -> Vault:
    """What opens the stored sessions."""
    return Vault(settings.load(VaultSettings))


def signing_key() -> CertificateKey | None:
    """What signs certificates; None where they are not signed.

    Raises:
        SettingsError: what is set is no key.
    """
    return certificate_key.configured(settings.load(CertificateSettings))


@asynccontextmanager
async def open_sessions(
    platform: OrderPlatform, pool: Pool, clock: ServerClock, vault: Vault
) -> AsyncIterator[Sessions]:
    """The sellers' sessions, refreshed where they can be."""
    async with platform.authorisation() as grants:
        yield Sessions(pool, vault, SessionRefresher(pool, vault, grants, clock))


def puller(
    platform: OrderPlatform,
    opened: OpenPlatform,
    pool: Pool,
    clock: ServerClock,
    producer: Producer,
    registry: Registry,
    calendar: LiveCalendar,
) -> Puller:
    """The engine that pulls spans, as configured."""
    return Puller(
        pool=pool,
        lists=opened.lists,
        details=opened.details,
        clock=clock,
        producer=producer,
        changes_topic=registry.changes.name,
        settings=settings.load(CoverageSettings),
        calendar=calendar,
        detail_lag=detail_lag(),
        kinds=kinds(platform),
    )


def comparison(opened: OpenPlatform, pool: Pool, puller: Puller, sessions: Sessions) -> PlatformComparison:
    """What compares sellers with the platform, as configured."""
    own, created = settings.load(ComparisonSettings), opened.created_lists
    comparer = DayComparer(
        pool=pool,
        puller=puller,
        created=None if created is None else CreatedLister(puller.clock, created, puller.settings),
        copy_time=own.copy_time,
    )
    return PlatformComparison(comparer, sessions, own.comparison_parallel_sellers)


def kinds(platform: OrderPlatform) -> tuple[Kind, ...]:
    """The kinds of objects that are kept; the kind that leads is the first.

    Those that the platform has, refunds only where they are wanted.
    """
    unwanted = set() if settings.load(PlatformSettings).refunds else {Kind.REFUND}
    return tuple(kind for kind in Kind if kind in platform.kinds - unwanted)


def linger_times(platform: OrderPlatform) -> LingerTimes:
    """How long messages may wait for others of their order.

    Raises:
        SettingsError: the setting names no messages of the platform, or no waits.
    """
    text, words = settings.load(EnricherSettings).linger, platform.linger_words
    if words is None:
        if text:
            raise settings.wrong(EnricherSettings, "linger", "no messages of this platform may wait")
        return NO_LINGER
    try:
        return linger.parse(text, words)
    except ValueError as error:
        raise settings.wrong(EnricherSettings, "linger", str(error)) from None


def detail_lag() -> timedelta:
    """How long the platform's detail may trail a change."""
    return timedelta(seconds=settings.load(EnricherSettings).detail_lag_allowance_seconds)
