"""The bulk start, put together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from bootstrap.job import BootstrapJob, Report
from bootstrap.runner import Runner
from topsync.base import settings
from topsync.base.service import Lifetime
from topsync.base.settings import BootstrapSettings, ReconcilerSettings
from topsync.platforms.platform_port import NotOfferedError
from topsync.sellers.sessions import Account
from topsync.wiring import opening, parts, platforms


async def run(lifetime: Lifetime, names: Sequence[str]) -> None:
    """The bulk start of the named sellers, or of all that are not live yet; all at the same time.

    Raises:
        NotOfferedError: the platform has no bulk export; nothing was begun.
        BootstrapFailedError: at least one did not come to its end; the others did.
    """
    platform = platforms.chosen()
    parts.check_settings(platform)
    parts.signing_key()
    own, reconciler = settings.load(BootstrapSettings), settings.load(ReconcilerSettings)
    vault = parts.vault()
    kafka, registry = await parts.open_topics()
    async with (
        parts.open_pool() as pool,
        opening.open_platform(platform, pool) as (opened, clock),
        parts.open_sessions(platform, pool, clock, vault) as sessions,
        parts.open_producer(kafka) as producer,
    ):
        export = opened.bulk_export
        if export is None:
            raise NotOfferedError(
                "the platform has no bulk export, and a bulk start by its lists is not built: nothing is "
                "started. `topsync replay` brings what the lists still show (docs/how-to/add-a-platform.md)"
            )

        def job(account: Account, report: Report) -> BootstrapJob:
            return BootstrapJob(
                account=account,
                subscriptions=opened.subscriptions,
                bulk_export=export,
                puller=parts.puller(platform, opened, pool, clock, producer, registry),
                topics=registry,
                settings=own,
                report=report,
            )

        silent_for = timedelta(seconds=reconciler.push_lost_after_seconds)
        runner = Runner(
            pool=pool,
            sessions=sessions,
            job=job,
            parallel_sellers=own.bootstrap_parallel_sellers,
            push_silent_for=None if opened.messages is None else silent_for,
        )
        await runner.run(lifetime, names)
