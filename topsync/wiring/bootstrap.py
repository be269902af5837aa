"""The bulk start, put together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from bootstrap.job import BootstrapJob, Report
from bootstrap.runner import Runner
from topsync.base import settings
from topsync.base.service import Lifetime
from topsync.base.settings import (
    BootstrapSettings,
    ReconcilerSettings,
    TaobaoSettings,
)
from topsync.platforms.taobao.export import TaobaoExport
from topsync.platforms.taobao.gateway.download import DownloadConfig
from topsync.platforms.taobao.sessions import TaobaoSubscriptions
from topsync.sellers.sessions import Account
from topsync.wiring import parts


async def run(lifetime: Lifetime, names: Sequence[str]) -> None:
    """The bulk start of the named sellers, or of all that are not live yet; all at the same time.

    Raises:
        BootstrapFailedError: at least one did not come to its end; the others did.
    """
    parts.check_settings()
    own, platform = settings.load(BootstrapSettings), settings.load(TaobaoSettings)
    reconciler = settings.load(ReconcilerSettings)
    vault, oauth = parts.vault(), parts.oauth_config()
    kafka, registry = await parts.open_topics()
    async with (
        parts.open_pool() as pool,
        parts.open_gateway(pool) as (client, clock),
        parts.open_sessions(pool, clock, vault, oauth) as sessions,
        parts.open_producer(kafka) as producer,
    ):
        hosts = frozenset(host.strip() for host in platform.download_hosts.split(","))
        export = TaobaoExport(
            client,
            DownloadConfig(allowed_hosts=hosts, max_bytes=own.export_max_bytes),
            own.export_max_ratio,
        )

        def job(account: Account, report: Report) -> BootstrapJob:
            return BootstrapJob(
                account=account,
                subscriptions=TaobaoSubscriptions(client),
                bulk_export=export,
                puller=parts.puller(pool, client, clock, producer, registry),
                topics=registry,
                settings=own,
                report=report,
            )

        runner = Runner(
            pool=pool,
            sessions=sessions,
            job=job,
            parallel_sellers=own.bootstrap_parallel_sellers,
            push_silent_for=timedelta(seconds=reconciler.push_lost_after_seconds),
        )
        await runner.run(lifetime, names)
