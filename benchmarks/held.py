"""How much memory an enricher takes for the records that are on their way through it.

`TOPSYNC_ENRICHER_MAX_BYTES` bounds the bytes of those records as Kafka has them. This measures what they
become when they are read: the records themselves, the orders in them, and what the writer works out.
"""

from __future__ import annotations

import gc
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson

from benchmarks.report import Report, Row
from schemas.trade import Trade
from topsync.base.settings import EnricherSettings
from topsync.simulator.clock import PlatformClock
from topsync.simulator.settings import WorldSettings
from topsync.simulator.world import World
from topsync.store.orders import OrderVersion

ORDERS: Final = 6000
MIB: Final = 1024**2
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


async def run() -> Report:
    """Read so many records that their bytes reach the bound, and keep them all."""
    bound = int(EnricherSettings.model_fields["enricher_max_bytes"].default)
    values = _values()
    gc.collect()
    before = _resident_bytes()
    records: list[bytes] = []
    versions: list[OrderVersion] = []
    now, taken = datetime.now(UTC), 0
    while taken < bound:
        # A record of its own: the client's buffer holds its bytes.
        record = bytes(bytearray(values[len(records) % len(values)]))
        records.append(record)
        taken += len(record)
        version = OrderVersion(1, Trade.read(orjson.loads(record)), now, "export")
        version.prepare()
        versions.append(version)
    grown = _resident_bytes() - before
    setup = (
        f"{len(versions):,} snapshots of the simulator's orders, together {bound // MIB} MiB as Kafka has "
        "them, which is the default of `TOPSYNC_ENRICHER_MAX_BYTES`. Each is read and prepared as the "
        "enricher does it, and all are kept. Memory is what the process has more than before "
        "(`/proc/self/statm`)."
    )
    return Report(
        "held",
        setup,
        [
            Row(what="records", value=taken / MIB, unit="MiB"),
            Row(what="memory that they take when they are read", value=grown / MIB, unit="MiB"),
            Row(what="memory / records", value=grown / taken, unit="", at_most=10, digits=1),
        ],
    )


def _values() -> list[bytes]:
    settings = WorldSettings(seed=1, sellers=1, orders=ORDERS, start_second=int(time.time()))
    world = World(settings, PlatformClock(None))
    seller = world.books[0].seller
    return [orjson.dumps(world.trade(seller, number)) for number in world.book(seller).numbers()]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
