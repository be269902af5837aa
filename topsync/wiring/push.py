"""The push service, put together."""

from __future__ import annotations

from typing import Final

from consumer.push.service import PushService
from topsync.base import settings, telemetry
from topsync.base.outages import Outage
from topsync.base.service import Lifetime
from topsync.base.settings import PushSettings, SchemeSettings
from topsync.model.scheme import Scheme
from topsync.platforms.platform_port import NotOfferedError
from topsync.sellers import schemes
from topsync.store import sellers
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.wiring import opening, parts, platforms

log = telemetry.get_logger(__name__)

LOOK_SECONDS: Final = 5.0
"""How often a process that is not needed looks whether it is. A bulk start waits longer for a connection."""


@parts.with_rights
async def run(lifetime: Lifetime) -> None:
    """The push service: the platform's messages to `changes`. Idle while no seller's scheme has messages.

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
                "the platform pushes no messages: do not run `topsync push`, and set TOPSYNC_SCHEME=two or "
                "one. Then sellers are polled, every TOPSYNC_POLL_INTERVAL_SECONDS"
            )
        service = PushService(
            messages=messages,
            kafka=kafka,
            topics=registry,
            pool=pool,
            detail_lag=parts.detail_lag(),
            proof_interval_seconds=own.push_proof_interval_seconds,
        )
        if await _is_needed(pool, lifetime, settings.load(SchemeSettings).scheme):
            await service.run(lifetime)


async def _is_needed(pool: Pool, lifetime: Lifetime, scheme: Scheme) -> bool:
    """Wait, without a connection, until a seller's scheme has messages; false when the process is to end.

    A connection that nobody needs would be refused again and again where the application has no right to it.
    """
    outage = Outage("cannot look whether messages are needed without the database; trying again")
    is_idle = False
    while not lifetime.stopping:
        try:
            if schemes.needs_push(await sellers.all_of(pool), scheme):
                return True
            outage.over()
        except OUTAGE_ERRORS as error:
            await lifetime.sleep(outage.failed(error))
            continue
        if not is_idle:
            log.info("idle, without a connection: no seller's scheme has messages")
            lifetime.set_ready()
            is_idle = True
        await lifetime.sleep(LOOK_SECONDS)
    return False
