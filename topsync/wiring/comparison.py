"""An operator's comparison with the platform, put together: the same parts as in the reconciler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from topsync.base import live_calendar, settings
from topsync.base.clock import ServerClock
from topsync.base.settings import CoverageSettings
from topsync.store import visibility
from topsync.store.database import Pool
from topsync.verify.comparison import PlatformComparison
from topsync.verify.reports import Reports
from topsync.verify.topic_rows import TopicRows
from topsync.wiring import opening, parts, platforms


@dataclass(frozen=True, slots=True)
class OpenedComparison:
    """What a comparison needs."""

    pool: Pool
    clock: ServerClock
    comparison: PlatformComparison
    reports: Reports
    topic_rows: TopicRows


@asynccontextmanager
async def opened() -> AsyncIterator[OpenedComparison]:
    """Everything, opened.

    Raises:
        SettingsError, UnreachableError: a setting is wrong, or a server is away.
    """
    platform = platforms.chosen()
    parts.check_settings(platform)
    vault, calendar = parts.vault(), live_calendar.configured()
    kafka, registry = await parts.open_topics()
    async with (
        parts.open_pool() as pool,
        opening.open_platform(platform, pool, calendar=calendar) as (open_platform, clock),
        parts.open_sessions(platform, pool, clock, vault) as sessions,
        parts.open_producer(kafka) as producer,
    ):
        rules = settings.load(CoverageSettings).learning
        calendar.learn(rules.in_force((await visibility.learned(pool)).allowance))
        puller = parts.puller(platform, open_platform, pool, clock, producer, registry, calendar)
        yield OpenedComparison(
            pool=pool,
            clock=clock,
            comparison=parts.comparison(open_platform, pool, puller, sessions),
            reports=Reports(pool, producer, registry.notifications.name),
            topic_rows=TopicRows(pool, kafka, registry),
        )
