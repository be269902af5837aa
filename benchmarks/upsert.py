"""Writing orders in batches: with the version guard, with all the writer's work, and without either.

All ways begin with orders whose JSON and content hash are ready. The last way shows how long these take.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson
import structlog
from pydantic import SecretStr

from benchmarks.report import Report, Row
from schemas.trade import Trade
from topsync.base.settings import DatabaseSettings
from topsync.local import run_folders
from topsync.local.postgres import EmbeddedPostgres
from topsync.local.processes import ProcessGroup
from topsync.simulator.clock import PlatformClock
from topsync.simulator.settings import WorldSettings
from topsync.simulator.world import World
from topsync.store import database, orders, schema
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.versions import version_row

ORDERS: Final = 6000
BATCH: Final = 200
"""The product's default."""

PARTITIONS: Final = 4
"""Written at the same time, as by an enricher: the database works on a batch while others are prepared."""

ROUNDS: Final = 7
TARGET: Final = 0.7

NEW, CHANGED = "new", "changed"
BARE, GUARDED, UPSERT, WHOLE = "bare insert", "under the guard", "the writer's upsert", "with hash"
WAYS: Final = (BARE, GUARDED, UPSERT, WHOLE)
STEP: Final = '{"transitions":["updated"],"status_from":"TRADE_FINISHED","changed":["seller_memo"]}'
"""The delta that the statements store when no delta was computed."""

BARE_INSERT: Final = """
insert into orders (tid, seller_id, created, modified, status, content_hash, fetched_at, source, trade, step)
select tid, seller_id, created, modified, status, content_hash, fetched_at, source, trade::jsonb, step::jsonb
from unnest(
    $1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::text[],
    $6::bytea[], $7::timestamptz[], $8::text[], $9::text[], $10::text[]
) as t (tid, seller_id, created, modified, status, content_hash, fetched_at, source, trade, step)
on conflict (tid) do update
set
    modified = excluded.modified, status = excluded.status, content_hash = excluded.content_hash,
    fetched_at = excluded.fetched_at, source = excluded.source, trade = excluded.trade, step = excluded.step
"""

Batch = Sequence[OrderVersion]
Write = Callable[[int, Batch], Awaitable[object]]
"""Writes the batch with this number."""

Rates = dict[tuple[str, str], list[float]]
"""Orders per second, by kind of order and way of writing, a value for each round."""


async def run() -> Report:
    """Let the ways take turns with new orders and with changed orders."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    seller_id, trades = _trades()
    rates: Rates = {(kind, way): [] for kind in (NEW, CHANGED) for way in WAYS}
    async with ProcessGroup(run_folders.create()) as group:
        postgres = EmbeddedPostgres(group, group.folder / "postgres")
        await postgres.start()
        own = DatabaseSettings(database_url=SecretStr(postgres.url))
        await schema.migrate(own)
        async with database.connect(own) as pool:
            epochs = [await orders.take_over(pool, number, "benchmark") for number in range(PARTITIONS)]

            async def upsert(number: int, batch: Batch) -> object:
                partition = number % PARTITIONS
                return await orders.TABLE.upsert(pool, batch, partition=partition, epoch=epochs[partition])

            writes = (_bare(pool), _under_the_guard(pool, epochs), upsert, upsert)
            for _, (way, write) in itertools.product(range(ROUNDS), zip(WAYS, writes, strict=True)):
                await pool.execute("truncate orders")
                for second, kind in enumerate((NEW, CHANGED)):
                    versions = [_version(seller_id, trade, second) for trade in trades]
                    if way != WHOLE:
                        _work_out(versions)
                    rates[kind, way].append(await _rate(write, versions))
                    # Nearly always, the version before a change has been published.
                    await pool.execute("update orders set published_revision = revision")
            assert await pool.fetchval("select count(*) from orders") == ORDERS
    return Report("upsert", _setup(), _rows(rates))


def _setup() -> str:
    return (
        f"{ORDERS:,} orders of the simulator in batches of {BATCH}, {PARTITIONS} batches at a time from one "
        "process, into an embedded PostgreSQL (durable) on the same cores. All but the last begin with the "
        "same: each order's content hash, computed beforehand. *Bare insert* is one "
        "`insert … on conflict do update` for each batch, without a guard. *Under the guard* is the "
        "statement that the writer uses instead: it checks version and epoch, and returns what it wrote. "
        "*The writer's upsert* also reads the version before and computes how each order differs from it, "
        "which subscribers read. *With hash* begins with an order as it was read: it also computes its "
        "content hash. "
        "Changed: each order once more, published meanwhile, a second later, with another note. "
        f"{ROUNDS} rounds in turn; medians, of the ratios too."
    )


def _rows(rates: Rates) -> list[Row]:
    rows = []
    for kind in (NEW, CHANGED):
        for way in WAYS:
            of_way = rates[kind, way]
            rows.append(Row(what=f"{kind} orders: {way}", value=statistics.median(of_way), unit="/s"))
            if way in (GUARDED, UPSERT):
                ratios = [ours / bare for ours, bare in zip(of_way, rates[kind, BARE], strict=True)]
                rows.append(
                    Row(
                        what=f"{kind} orders: {way} / {BARE}",
                        value=statistics.median(ratios),
                        unit="",
                        at_least=TARGET if way == GUARDED else None,
                        digits=2,
                    )
                )
    return rows


def _trades() -> tuple[int, list[Trade]]:
    settings = WorldSettings(seed=1, sellers=1, orders=ORDERS, start_second=int(time.time()))
    world = World(settings, PlatformClock(None))
    seller = world.books[0].seller
    platform = (world.trade(seller, number) for number in world.book(seller).numbers())
    return seller.user_id, [Trade.from_platform(orjson.loads(orjson.dumps(trade))) for trade in platform]


def _version(seller_id: int, trade: Trade, second: int) -> OrderVersion:
    """A version as it was read."""
    later = {"modified": trade.modified + timedelta(seconds=second), "seller_memo": f"note {second}"}
    return OrderVersion(seller_id, trade.model_copy(update=later).form(), datetime.now(UTC), "push")


def _work_out(versions: Sequence[OrderVersion]) -> None:
    """Compute what a version keeps after its first use."""
    for version in versions:
        assert version.content_hash


def _bare(pool: Pool) -> Write:
    async def write(_: int, batch: Batch) -> object:
        return await pool.execute(BARE_INSERT, *_columns(batch))

    return write


def _under_the_guard(pool: Pool, epochs: Sequence[int]) -> Write:
    async def write(number: int, batch: Batch) -> object:
        partition = number % PARTITIONS
        rows = [version_row(partition, version, version.content_hash, STEP) for version in batch]
        statement = orders.TABLE.statement("upsert")
        return await pool.fetch(statement, [partition], [epochs[partition]], rows, None)

    return write


def _columns(batch: Batch) -> list[list[object]]:
    """A batch as the bare statement takes it."""
    return [
        [version.tid for version in batch],
        [version.seller_id for version in batch],
        [version.created for version in batch],
        [version.modified for version in batch],
        [version.status for version in batch],
        [version.content_hash for version in batch],
        [version.fetched_at for version in batch],
        [version.source for version in batch],
        [version.wire for version in batch],
        [STEP] * len(batch),
    ]


async def _rate(write: Write, versions: Sequence[OrderVersion]) -> float:
    """Orders per second, with a writer for each partition."""
    batches = enumerate(
        list(itertools.islice(versions, start, start + BATCH)) for start in range(0, len(versions), BATCH)
    )

    async def writer() -> None:
        for number, batch in batches:
            await write(number, batch)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(PARTITIONS):
            tasks.create_task(writer())
    return len(versions) / (time.perf_counter() - begun)
