"""An enricher, put together."""

from __future__ import annotations

import os
import socket

from consumer.enrich import draining
from consumer.enrich.bytes_in_flight import BytesInFlight
from consumer.enrich.dead_letter_share import Limit
from consumer.enrich.enricher import Enricher
from consumer.enrich.kinds.catalogue import KINDS
from consumer.enrich.oddities import Oddities
from consumer.enrich.read import fetching
from consumer.enrich.read.batches import BatchReader
from consumer.enrich.read.bringing import Bringer
from consumer.enrich.read.fetching import Fetcher
from consumer.enrich.write.writer import Tools
from topsync.base import settings
from topsync.base.service import Lifetime
from topsync.base.settings import EnricherSettings
from topsync.model.anomaly import Sightings
from topsync.store.shared_table import SharedTables
from topsync.wiring import opening, parts, platforms


@parts.with_rights
async def run(lifetime: Lifetime, *, drain: bool = False) -> None:
    """An enricher: `changes` and `snapshots` to `orders`; with `drain`, until nothing is left of them."""
    platform = platforms.chosen()
    parts.check_settings(platform)
    own, vault = settings.load(EnricherSettings), parts.vault()
    kafka, registry = await parts.open_topics(draining=drain)
    sightings = Sightings()
    async with (
        parts.open_pool() as pool,
        opening.open_platform(platform, pool, retries=fetching.RETRIES, sightings=sightings) as (
            opened,
            clock,
        ),
        parts.open_sessions(platform, pool, clock, vault) as sessions,
    ):
        tables = SharedTables(pool)
        fetcher = Fetcher(opened.details, clock, sessions)
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
                    Bringer(fetcher, clock, registry, sightings),
                    kinds=[KINDS[kind] for kind in parts.kinds(platform)],
                    linger=parts.linger_times(platform),
                ),
                bytes_in_flight=BytesInFlight(own.enricher_max_bytes),
                limit=Limit(
                    own.dead_letter_limit_share, own.dead_letter_limit_records, own.dead_letter_limit_least
                ),
                oddities=Oddities(sightings, platform.trade_types),
            ),
            owner=own.enricher_instance_id or f"{socket.gethostname()}/{os.getpid()}",
            draining=drain,
        )
        await (draining.drain(enricher, lifetime) if drain else enricher.run(lifetime))
