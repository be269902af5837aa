"""The long-running processes and jobs, each as the command line and the images start it."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta

from bootstrap.job import BootstrapFailedError, BootstrapJob
from bootstrap.steps import STEPS
from consumer.enrich import draining
from consumer.enrich.bytes_in_flight import Room
from consumer.enrich.dead_letter_share import Limit
from consumer.enrich.enricher import Enricher
from consumer.enrich.kinds.catalogue import KINDS
from consumer.enrich.read import fetching
from consumer.enrich.read.batches import BatchReader
from consumer.enrich.read.bringing import Bringer
from consumer.enrich.read.fetching import Fetcher
from consumer.enrich.write.writer import Tools
from consumer.push.service import PushService
from reconciler import backlog_plan
from reconciler.backlogs import BulkDetails
from reconciler.plan import PullRules
from reconciler.refetching import Refetching
from reconciler.replays import Replays
from reconciler.requests import SignalReader
from reconciler.service import Reconciler
from topsync.base import settings, telemetry
from topsync.base.errors import OperatorError
from topsync.base.progress_bars import Bars
from topsync.base.service import Lifetime
from topsync.base.settings import (
    AuthorisationSettings,
    BootstrapSettings,
    BudgetSettings,
    CoverageSettings,
    DatabaseSettings,
    EnricherSettings,
    KafkaSettings,
    PlatformSettings,
    PushSettings,
    ReconcilerSettings,
)
from topsync.coverage.pull import PULL_FAILURES, NotStoredError
from topsync.model.kind import Kind
from topsync.platforms.port import SessionRefusedError
from topsync.platforms.taobao.channel.backoff import ReconnectPolicy
from topsync.platforms.taobao.channel.config import ConnectionConfig
from topsync.platforms.taobao.channel.messages import ConnectFields
from topsync.platforms.taobao.channel_token import token_source
from topsync.platforms.taobao.detail_tasks import TaobaoDetailTasks
from topsync.platforms.taobao.details import TaobaoDetails
from topsync.platforms.taobao.export import TaobaoExport
from topsync.platforms.taobao.gateway.download import DownloadConfig
from topsync.platforms.taobao.messages import TaobaoMessages
from topsync.platforms.taobao.sessions import TaobaoSubscriptions
from topsync.sellers import session_rules
from topsync.sellers.session_watch import SessionWatch
from topsync.sellers.sessions import Account, Sessions
from topsync.store import coverage, push_connections, sellers
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.sellers import SellerState
from topsync.store.shared_table import SharedTables
from topsync.stream import producer as producers
from topsync.verify.witness import Witness
from topsync.wiring import parts

log = telemetry.get_logger(__name__)

SELLER_FAILURES = (
    OperatorError,
    *PULL_FAILURES,
    producers.PublishError,
    *OUTAGE_ERRORS,
)
"""What ends one seller's bulk start and leaves the others alone; a new run goes on where it stood."""

MAX_SESSIONS = 3
"""A bulk start that outlives so many sessions is not refused for their age."""

PUSH_WAIT_SECONDS = 30.0
"""How long a bootstrap waits for the push service before it refuses to begin."""


def _check_settings_of_the_parts() -> None:
    """Read what a process's parts read for themselves later: a wrong setting stops it before it waits."""
    settings.load(KafkaSettings)
    settings.load(DatabaseSettings)
    settings.load(PlatformSettings)
    settings.load(BudgetSettings)
    settings.load(CoverageSettings)
    parts.patience()


async def push(lifetime: Lifetime) -> None:
    """The push service: message channel to `changes`."""
    _check_settings_of_the_parts()
    platform, own = settings.load(PlatformSettings), settings.load(PushSettings)
    config = ConnectionConfig(
        uri=str(platform.channel_url),
        app_key=platform.app_key,
        app_secret=platform.app_secret,
        group=platform.channel_group,
        fields=ConnectFields(
            sdk=own.channel_sdk,
            intranet_ip=own.channel_intranet_ip,
            minor_group=own.channel_minor_group,
            filter_exp=own.channel_filter,
            out_id=own.channel_out_id,
        ),
        pull_interval_seconds=own.pull_interval_seconds,
        dead_after_seconds=own.dead_peer_seconds,
        silence_seconds=own.silence_seconds or None,
        max_frame_bytes=own.max_frame_bytes,
        max_unconfirmed_bytes=own.max_unconfirmed_bytes,
        reconnect=ReconnectPolicy(
            first_seconds=own.reconnect_initial_seconds,
            max_seconds=own.reconnect_max_seconds,
            refused_first_seconds=own.refused_initial_seconds,
            kicked_first_seconds=own.kicked_initial_seconds,
        ),
    )
    kafka, registry = await parts.open_topics()
    async with parts.open_pool() as pool, parts.open_gateway(pool) as (client, clock):
        service = PushService(
            messages=TaobaoMessages(
                config,
                clock,
                connection_count=own.push_connections,
                token_source=token_source(client, config.group) if own.channel_token else None,
            ),
            kafka=kafka,
            topics=registry,
            pool=pool,
            detail_lag=parts.detail_lag(),
            proof_interval_seconds=own.push_proof_interval_seconds,
        )
        await service.run(lifetime)


async def enrich(lifetime: Lifetime, *, drain: bool = False) -> None:
    """An enricher: `changes` and `snapshots` to `orders`; with `drain`, until nothing is left of them."""
    _check_settings_of_the_parts()
    own, vault, oauth = settings.load(EnricherSettings), parts.vault(), parts.oauth_config()
    kafka, registry = await parts.open_topics(draining=drain)
    async with (
        parts.open_pool() as pool,
        parts.open_gateway(pool, retries=fetching.RETRIES) as (client, clock),
        parts.open_sessions(pool, clock, vault, oauth) as sessions,
    ):
        tables = SharedTables(pool)
        with_refunds = settings.load(PlatformSettings).refunds
        fetcher = Fetcher(TaobaoDetails(client), clock, sessions)
        enricher = Enricher(
            settings=own,
            kafka=kafka,
            tools=Tools(
                topics=registry,
                clock=clock,
                pool=pool,
                tables=tables,
                batches=BatchReader(
                    pool,
                    tables,
                    Bringer(fetcher, clock, registry),
                    kinds=[kind for kind in KINDS.values() if with_refunds or kind.kind is not Kind.REFUND],
                    patience=parts.patience(),
                ),
                room=Room(own.enricher_max_bytes),
                limit=Limit(
                    own.dead_letter_limit_share, own.dead_letter_limit_records, own.dead_letter_limit_least
                ),
            ),
            owner=own.enricher_instance_id or f"{socket.gethostname()}/{os.getpid()}",
            draining=drain,
        )
        await (draining.drain(enricher, lifetime) if drain else enricher.run(lifetime))


async def reconcile(lifetime: Lifetime) -> None:
    """The reconciler: gaps, sweeps, replays; and beside it the watch over the sellers' sessions."""
    _check_settings_of_the_parts()
    own, cover = settings.load(ReconcilerSettings), settings.load(CoverageSettings)
    budget, share = settings.load(BudgetSettings), settings.load(AuthorisationSettings).session_refresh_share
    vault, oauth = parts.vault(), parts.oauth_config()
    kafka, registry = await parts.open_topics()
    async with (
        parts.open_pool() as pool,
        parts.open_gateway(pool) as (client, clock),
        parts.open_sessions(pool, clock, vault, oauth) as sessions,
        parts.open_producer(kafka) as producer,
    ):
        puller = parts.puller(pool, client, clock, producer, registry)
        details_by_task = TaobaoDetailTasks(client)
        reconciler = Reconciler(
            settings=own,
            rules=PullRules(
                lists=parts.order_list_rules(),
                lateness=cover.lateness,
                sweep_interval=timedelta(seconds=own.sweep_interval_seconds),
                gap_retry=timedelta(seconds=own.gap_retry_seconds),
            ),
            pool=pool,
            puller=puller,
            sessions=sessions,
            clock=clock,
            refetching=Refetching(
                *(pool, producer, registry, clock, own.refetch_attempts),
                told_at_once=math.ceil(budget.calls_per_second * own.reconcile_poll_seconds),
            ),
            bulk=BulkDetails(
                pool=pool,
                producer=producer,
                topics=registry,
                tasks=details_by_task,
                clock=clock,
                sessions=sessions,
                rules=backlog_plan.BacklogRules(
                    from_seconds=own.bulk_from_seconds,
                    tasks_at_once=own.bulk_tasks,
                    calls_per_second=budget.calls_per_second,
                    backlog_changes=settings.load(EnricherSettings).backlog_changes,
                    orders_per_task=details_by_task.max_orders,
                ),
                poll_seconds=own.bulk_poll_seconds,
                deadline_seconds=own.bulk_deadline_seconds,
            ),
            replays=Replays(
                *(pool, puller, sessions, clock, registry.notifications.name),
                calls_per_second=budget.calls_per_second,
            ),
        )
        watch = SessionWatch(
            pool=pool,
            sessions=sessions,
            subscriptions=TaobaoSubscriptions(client),
            clock=clock,
            producer=producer,
            notifications_topic=registry.notifications.name,
            refresh_share=share,
        )
        reader = SignalReader(kafka, registry, pool, producer, clock, parts.order_list_rules())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reconciler.run(lifetime))
            tasks.create_task(watch.run(lifetime))
            tasks.create_task(reader.run(lifetime))


async def bootstrap(lifetime: Lifetime, names: Sequence[str]) -> None:
    """The bulk start of the named sellers, or of all that are not live yet; all at the same time.

    Raises:
        BootstrapFailedError: at least one did not come to its end; the others did.
    """
    _check_settings_of_the_parts()
    settings.load(ReconcilerSettings)
    own, platform = settings.load(BootstrapSettings), settings.load(PlatformSettings)
    vault, oauth = parts.vault(), parts.oauth_config()
    kafka, registry = await parts.open_topics()
    async with (
        parts.open_pool() as pool,
        parts.open_gateway(pool) as (client, clock),
        parts.open_sessions(pool, clock, vault, oauth) as sessions,
        parts.open_producer(kafka) as producer,
    ):
        accounts = _chosen(await sessions.usable(), names)
        passed_over = [] if names else await _passed_over(pool)
        if passed_over:
            log.warning("paused or expired sellers are not started", sellers=passed_over)
        failures = [] if names else _new_without_session(sessions)
        if not accounts and passed_over:
            failures.append(
                f"nothing is started: paused or expired: {', '.join(map(str, passed_over))}; see "
                "`topsync sellers list`"
            )
        if not accounts:
            if failures:
                raise BootstrapFailedError("; ".join(failures))
            log.info("no seller is new; nothing to do")
            return
        await _require_push(pool, lifetime)
        lifetime.set_ready()
        limit = asyncio.Semaphore(own.bootstrap_parallel_sellers)
        hosts = frozenset(host.strip() for host in platform.download_hosts.split(","))
        export = TaobaoExport(
            client,
            DownloadConfig(allowed_hosts=hosts, max_bytes=own.export_max_bytes),
            own.export_max_ratio,
        )
        with Bars(sys.stderr, STEPS) as bars:

            async def run_one(account: Account) -> None:
                report = bars.reporter(account.seller.nick)

                def job(account: Account) -> BootstrapJob:
                    return BootstrapJob(
                        account=account,
                        subscriptions=TaobaoSubscriptions(client),
                        bulk_export=export,
                        puller=parts.puller(pool, client, clock, producer, registry),
                        topics=registry,
                        settings=own,
                        report=report,
                    )

                async with limit:
                    try:
                        await _run_with_renewals(job, account, sessions)
                    except SELLER_FAILURES as error:
                        failures.append(f"{account.seller.nick}: {error or type(error).__name__}")

            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(run_one(account)) for account in accounts]
                stopper = tasks.create_task(_cancel_on_stop(lifetime, running))
                await asyncio.wait(running)
                stopper.cancel()
    if failures:
        raise BootstrapFailedError("; ".join(failures))
    if any(task.cancelled() for task in running):
        raise BootstrapFailedError("ended before it was done; run it again, and it goes on where it stood")


async def _run_with_renewals(
    job: Callable[[Account], BootstrapJob], account: Account, sessions: Sessions
) -> None:
    """Run a bulk start to its end; when its session is refused, go on with another if there is one.

    Raises:
        BootstrapFailedError: also where the seller lost its session.
        TopError, NotStoredError, ...: see `BootstrapJob.run`.
    """
    for _ in range(MAX_SESSIONS):
        try:
            return await job(account).run()
        except SessionRefusedError:
            renewed = await sessions.refused(account)
        except (NotStoredError, BootstrapFailedError):
            # Perhaps it was the writers whom the platform refused; what they could not fetch is not stored.
            current = await sellers.get(sessions.pool, account.seller.seller_id)
            if current is None or current.state is not SellerState.EXPIRED:
                raise
            renewed = None
        if renewed is None:
            break
        account = renewed
    raise BootstrapFailedError(
        "the platform refuses the seller's session: run `topsync sellers authorise "
        f"{account.seller.seller_id}`, then the bootstrap again; it goes on where it stood"
    )


async def _cancel_on_stop(lifetime: Lifetime, running: Sequence[asyncio.Task[None]]) -> None:
    await lifetime.wait_for_stop()
    for task in running:
        task.cancel()


def _chosen(usable: dict[int, Account], names: Sequence[str]) -> list[Account]:
    if not names:
        return [account for account in usable.values() if account.seller.state == "new"]
    known = [account.seller for account in usable.values()]
    chosen = {name: sellers.choose(known, name) for name in names}
    unknown = [name for name, seller in chosen.items() if seller is None]
    if unknown:
        raise BootstrapFailedError(
            f"not known, paused, expired or erased, or no key opens their session: {', '.join(unknown)}; "
            "see `topsync sellers list`"
        )
    return [usable[seller_id] for seller_id in {one.seller_id: one for one in chosen.values() if one}]


async def _passed_over(pool: Pool) -> list[int]:
    """Sellers without a bulk start that cannot have one now."""
    proven = await coverage.proven(pool)
    away = [
        one for one in await sellers.all_of(pool) if one.state in (SellerState.PAUSED, SellerState.EXPIRED)
    ]
    return [one.seller_id for one in away if not proven.get(one.seller_id)]


def _new_without_session(sessions: Sessions) -> list[str]:
    """New sellers that have to be left out, and why: the others go on."""
    return [
        f"{seller.nick}: {session_rules.UNREADABLE}"
        for seller in sessions.unreadable
        if seller.state is SellerState.NEW
    ]


async def _require_push(pool: Pool, lifetime: Lifetime) -> None:
    """Messages first: a change between export and increments would otherwise wait for the next sweep."""
    silent_for = timedelta(seconds=settings.load(ReconcilerSettings).push_lost_after_seconds)
    deadline = asyncio.get_running_loop().time() + PUSH_WAIT_SECONDS
    while not lifetime.stopping and not await push_connections.up(pool, silent_for=silent_for):
        if asyncio.get_running_loop().time() >= deadline:
            raise BootstrapFailedError(
                f"no connection to the message channel for {PUSH_WAIT_SECONDS:g} s: start `topsync push` "
                "first, so that no change is missed while the export runs"
            )
        await lifetime.sleep(0.2)


async def witness(lifetime: Lifetime) -> None:
    """The witness: reads `orders` from the start and watches that nothing goes backwards."""
    settings.load(DatabaseSettings)
    kafka, registry = await parts.open_topics()
    async with parts.open_pool() as pool:
        lifetime.set_ready()
        await Witness(kafka, registry, pool).run(lambda: lifetime.stopping)
