"""An enricher, put together."""

from __future__ import annotations

import os
import socket

from consumer.enrich import draining
from consumer.enrich.bytes_in_flight import BytesInFlight
from consumer.enrich.dead_letter_share import Limit
from consumer.enrich.enricher import Enricher
from consumer.enrich.kinds.catalogue import KINDS
from consumer.enrich.read import fetching
from consumer.enrich.read.batches import BatchReader
from consumer.enrich.read.bringing import Bringer
from consumer.enrich.read.fetching import Fetcher
from consumer.enrich.write.writer import Tools
from topsync.base import settings
from topsync.base.service import Lifetime
from topsync.base.settings import (
    EnricherSettings,
    PlatformSettings,
)
from topsync.platforms.taobao.details import TaobaoDetails
from topsync.store.shared_table import SharedTables
from topsync.wiring import parts


async def run(lifetime: Lifetime, *, drain: bool = False) -> None:
    """An enricher: `changes` and `snapshots` to `orders`; with `drain`, until nothing is left of them."""
    parts.check_settings()
    own, vault, oauth = settings.load(EnricherSettings), parts.vault(), parts.oauth_config()
    kafka, registry = await parts.open_topics(draining=drain)
    async with (
        parts.open_pool() as pool,
        parts.open_gateway(pool, retries=fetching.RETRIES) as (client, clock),
        parts.open_sessions(pool, clock, vault, oauth) as sessions,
    ):
        tables = SharedTables(pool)
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
                    kinds=[KINDS[kind] for kind in settings.load(PlatformSettings).kinds],
                    linger=parts.linger_times(),
                ),
                bytes_in_flight=BytesInFlight(own.enricher_max_bytes),
                limit=Limit(
                    own.dead_letter_limit_share, own.dead_letter_limit_records, own.dead_letter_limit_least
                ),
            ),
            owner=own.enricher_instance_id or f"{socket.gethostname()}/{os.getpid()}",
            draining=drain,
        )
        await (draining.drain(enricher, lifetime) if drain else enricher.run(lifetime))
