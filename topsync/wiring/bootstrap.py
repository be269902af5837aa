"""The bulk start, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from bootstrap import disk_room, runner
from bootstrap.certifying import Certifier
from bootstrap.counted_spans import LongestCount
from bootstrap.job import BootstrapJob
from bootstrap.planning import NEITHER, Plan, Planner
from bootstrap.progress import SellerProgress
from bootstrap.pulse import Pulse
from bootstrap.runner import Runner
from bootstrap.start import Start
from bootstrap.turns import LoadingTurns
from schemas import platform_time
from topsync.base import live_calendar, settings
from topsync.base.service import Lifetime
from topsync.base.settings import BootstrapSettings, ReconcilerSettings, SchemeSettings
from topsync.coverage.created import CreatedLister
from topsync.model.scheme import Scheme
from topsync.platforms.platform_port import NotOfferedError, OpenPlatform
from topsync.sellers import schemes
from topsync.sellers.sessions import Account, Sessions
from topsync.store import export_hints
from topsync.store.database import Pool
from topsync.store.export_requests import ExportRequests
from topsync.store.seller_locks import seller_locks
from topsync.store.sellers import Seller
from topsync.wiring import opening, parts, platforms


@dataclass(frozen=True, slots=True)
class _Opened:
    """What bulk starts need, open."""

    platform: OpenPlatform
    pool: Pool
    sessions: Sessions
    start: Callable[[Account, SellerProgress], Start]


@asynccontextmanager
async def _open(own: BootstrapSettings) -> AsyncIterator[_Opened]:
    platform = platforms.chosen()
    parts.check_settings(platform)
    vault, calendar = parts.vault(), live_calendar.configured()
    kafka, registry = await parts.open_topics()
    async with (
        parts.open_pool() as pool,
        opening.open_platform(platform, pool, calendar=calendar) as (opened, clock),
        parts.open_sessions(platform, pool, clock, vault) as sessions,
        parts.open_producer(kafka) as producer,
        export_hints.listening(pool) as hints,
    ):
        if opened.bulk_export is None and opened.created_lists is None:
            raise NotOfferedError(NEITHER)
        puller = parts.puller(platform, opened, pool, clock, producer, registry, calendar)
        created = None
        if opened.created_lists is not None:
            created = CreatedLister(clock, opened.created_lists, puller.settings)
        export, loading = opened.bulk_export, LoadingTurns(own.bootstrap_parallel_slices)
        pulling = LoadingTurns(own.bootstrap_parallel_sellers)
        requests, pulse, longest_count = ExportRequests(pool), Pulse(), LongestCount()

        def start(account: Account, progress: SellerProgress) -> Start:
            return Start(
                account=account,
                puller=puller,
                bulk_export=export,
                created=created,
                detail_tasks=opened.detail_tasks,
                hints=hints,
                topics=registry,
                settings=own,
                requests=requests,
                pulse=pulse,
                loading=loading,
                pulling=pulling,
                longest_count=longest_count,
                progress=progress,
            )

        yield _Opened(opened, pool, sessions, start)


@parts.with_rights
async def run(lifetime: Lifetime, names: Sequence[str], *, as_json: bool = False) -> None:
    """The bulk start of the named sellers, or of all that are not live yet; all at the same time.

    Raises:
        NotOfferedError: the platform has nothing that the past could come from; nothing was begun.
        BootstrapFailedError: at least one did not come to its end; the others did.
    """
    own, reconciler = settings.load(BootstrapSettings), settings.load(ReconcilerSettings)
    key = parts.signing_key()
    async with (
        _open(own) as opened,
        seller_locks(opened.pool) as locks,
        disk_room.watched(own.work_dir),
    ):
        subscriptions, pushes = opened.platform.subscriptions, opened.platform.messages is not None
        silent_for = timedelta(seconds=reconciler.push_lost_after_seconds)
        certifier = Certifier(key, silent_for)

        def job(account: Account, progress: SellerProgress) -> BootstrapJob:
            return BootstrapJob(
                start=opened.start(account, progress),
                scheme=_scheme_of(account.seller),
                subscriptions=subscriptions,
                certifier=certifier,
            )

        await Runner(
            pool=opened.pool,
            sessions=opened.sessions,
            locks=locks,
            job=job,
            needs_push=lambda seller: pushes and _scheme_of(seller).pushes,
            push_silent_for=silent_for,
            as_json=as_json,
        ).run(lifetime, names)


async def plan(names: Sequence[str]) -> list[tuple[Seller, Plan]]:
    """What the bulk start of the named sellers would do, or of all that are not live yet. Writes nothing.

    Raises:
        BootstrapFailedError: a name means no seller that can be started.
        NotOfferedError: the platform has not what a seller's scheme needs.
    """
    own = settings.load(BootstrapSettings)
    found = []
    async with _open(own) as opened:
        for account in runner.chosen(await opened.sessions.usable(), names):
            progress = SellerProgress(account.seller.seller_id, account.seller.nick)
            start = opened.start(account, progress)
            day_zero = platform_time.day_of(start.clock.now())
            planner = Planner(start, _scheme_of(account.seller))
            first_day = day_zero - timedelta(days=own.export_days)
            made = await planner.plan(first_day, day_zero - timedelta(days=1))
            found.append((account.seller, made))
    return found


def _scheme_of(seller: Seller) -> Scheme:
    return schemes.scheme_of(seller, settings.load(SchemeSettings).scheme)
