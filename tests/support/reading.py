"""A reader of batches as an enricher has it."""

from __future__ import annotations

from consumer.enrich.read.batches import BatchReader
from consumer.enrich.read.bringing import Bringer
from consumer.enrich.read.fetching import Fetcher
from topsync.base.clock import ServerClock
from topsync.platforms.port import Details
from topsync.sellers.sessions import Sessions
from topsync.store.database import Pool
from topsync.store.shared_table import SharedTables
from topsync.stream.topics import Registry


def reader(
    pool: Pool,
    details: Details,
    clock: ServerClock,
    sessions: Sessions,
    topics: Registry,
    tables: SharedTables | None = None,
) -> BatchReader:
    """A reader of orders and refunds."""
    fetcher = Fetcher(details, clock, sessions)
    return BatchReader(pool, tables or SharedTables(pool), Bringer(fetcher, clock, topics))
