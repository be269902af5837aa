"""The push service, put together."""

from __future__ import annotations

from consumer.push.service import PushService
from topsync.base import settings
from topsync.base.service import Lifetime
from topsync.base.settings import PushSettings
from topsync.platforms.platform_port import NotOfferedError
from topsync.wiring import opening, parts, platforms


async def run(lifetime: Lifetime) -> None:
    """The push service: the platform's messages to `changes`.

    Raises:
        NotOfferedError: the platform pushes nothing.
    """
    platform = platforms.chosen()
    parts.check_settings(platform)
    own = settings.load(PushSettings)
    kafka, registry = await parts.open_topics()
    async with parts.open_pool() as pool, opening.open_platform(platform, pool) as (opened, _):
        messages = opened.messages
        if messages is None:
            raise NotOfferedError(
                "the platform pushes no messages: do not run `topsync push`. Changes are found by sweeps, "
                "every TOPSYNC_SWEEP_INTERVAL_SECONDS"
            )
        service = PushService(
            messages=messages,
            kafka=kafka,
            topics=registry,
            pool=pool,
            detail_lag=parts.detail_lag(),
            proof_interval_seconds=own.push_proof_interval_seconds,
        )
        await service.run(lifetime)
