"""How large each table gets: bytes a row, measured, and what a year brings to a large installation.

Each table is filled with rows as the services write them, in a real PostgreSQL; its size is that of the
table, its indexes and its texts beside the rows. How many rows a day brings is reckoned, in `DAILY`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import orjson
import structlog
from pydantic import SecretStr

from benchmarks.report import Report
from schemas.refund import Refund
from schemas.trade import Trade
from topsync.base.settings import DatabaseSettings, KafkaSettings, RetentionSettings
from topsync.local import run_folders
from topsync.local.postgres import EmbeddedPostgres
from topsync.local.processes import ProcessGroup
from topsync.simulator import refunds as simulated_refunds
from topsync.simulator.clock import PlatformClock
from topsync.simulator.settings import WorldSettings
from topsync.simulator.wire import JsonObject
from topsync.simulator.world import World
from topsync.store import database, schema
from topsync.store.database import Pool
from topsync.store.tables import TABLES, Goes, GrowsWith, TableGrowth

SELLERS: Final = 3000
ORDERS_A_DAY: Final = 100
"""Of each seller: 110 million orders in a year."""

REFUND_SHARE: Final = 0.05
SWEEPS_A_DAY: Final = 288
"""Every 300 s, the default; each leaves a window of the orders' list and a window of the refunds' list."""

LOSSES_A_DAY: Final = 4
"""Of push: releases, the platform's maintenance, the network. Each opens a gap for every seller."""

CONNECTIONS: Final = 2
REPLAYS_A_DAY: Final = 100
COUNTS_A_DAY: Final = 200
"""Of calls: APIs, priorities and outcomes."""

LETTERS_A_DAY: Final = 50
PAST_DAYS: Final = 90
"""Of a bulk start."""

WAITING: Final = 50_000
"""Orders that wait to be asked for again, at a bad moment."""

YEAR_DAYS: Final = 365

SAMPLES: Final = 2000
COPIES: Final = 20
"""Of each order that the simulator made, under other ids."""

SAMPLE_SELLERS: Final = 200

GIB: Final = 2**30

COLUMNS: Final[Mapping[str, str]] = {
    "table": "left",
    "rows a day": "right",
    "kept": "left",
    "rows after a year": "right",
    "bytes a row": "right",
    "GiB after a year": "right",
}


@dataclass(frozen=True, slots=True)
class Growth:
    """How many rows of a table there are after a year: some from the beginning, and some each day."""

    daily: float = 0
    once: float = 0

    def after_a_year(self, kept_days: float) -> float:
        return self.once + self.daily * min(YEAR_DAYS, kept_days)


PAST_ORDERS: Final = SELLERS * PAST_DAYS * ORDERS_A_DAY

DAILY: Final[Mapping[str, Growth]] = {
    "orders": Growth(SELLERS * ORDERS_A_DAY, PAST_ORDERS),
    "refunds": Growth(SELLERS * ORDERS_A_DAY * REFUND_SHARE, PAST_ORDERS * REFUND_SHARE),
    "slice_rows": Growth(once=PAST_ORDERS * (1 + REFUND_SHARE)),
    "windows": Growth(SELLERS * SWEEPS_A_DAY * 2),
    # Of each day, list and seller: sweeps, and the gap of a loss.
    "window_days": Growth(SELLERS * 2 * 2),
    "gaps": Growth(SELLERS * LOSSES_A_DAY),
    "push_connections": Growth(CONNECTIONS * LOSSES_A_DAY),
    "replays": Growth(REPLAYS_A_DAY),
    "api_calls": Growth(COUNTS_A_DAY),
    "open_letters": Growth(LETTERS_A_DAY),
    "dead_letter_retries": Growth(LETTERS_A_DAY),
    "refetches": Growth(once=WAITING),
    "coverage": Growth(once=SELLERS),
    "sellers": Growth(once=SELLERS),
}

FILLINGS: Final[Sequence[str]] = (
    f"""
    insert into sellers (seller_id, nick, session_cipher, refresh_cipher, grant_facts)
    select
        2200000000000 + n, '示例卖家' || n, decode(repeat('a0', 120), 'hex'),
        decode(repeat('a0', 120), 'hex'),
        '{{"expires_in": 31536000, "w1_expires_in": 31536000}}'
    from generate_series(1, {SAMPLE_SELLERS}) as n
    """,
    "insert into coverage (seller_id, proven) select seller_id, '{[2025-01-01,2025-06-01)}' from sellers",
    """
    insert into windows (seller_id, span, source, reason, pulled_at, listed, hinted, proven_to, lists)
    select
        seller_id, tstzrange(at - interval '20 minutes', at, '[]'), 'sweep', 'sweep', at, 5, 1,
        at - interval '10 minutes', lists
    from
        generate_series(1, 250) as n,
        lateral (select timestamptz '2025-06-01' + n * interval '300 seconds' as at) as t,
        sellers, unnest('{orders,refunds}'::text[]) as lists
    """,
    """
    insert into window_days
    select
        seller_id, day::date, lists, source, 288, 288, 1440, 100,
        tstzmultirange(tstzrange(day - interval '20 minutes', day + interval '1 day', '[]')),
        tstzmultirange(tstzrange(day - interval '20 minutes', day + interval '1 day')), day, day
    from
        generate_series(timestamptz '2025-01-01', timestamptz '2025-03-31', interval '1 day') as day, sellers,
        unnest('{orders,refunds}'::text[]) as lists, unnest('{gap,sweep}'::text[]) as source
    """,
    """
    insert into push_connections
        (id, channel_group, connected_at, last_proof_at, lost_at, reason, cause, gap_opened)
    select
        gen_random_uuid(), 'default', at, at, at, 'the platform closed the connection: 1006', 'closed', true
    from generate_series(timestamptz '2025-01-01', timestamptz '2025-03-31', interval '6 hours') as at
    """,
    """
    insert into gaps (seller_id, began, ended, cause, connection, opened_at, pulled_at, closed_at)
    select
        seller_id, lost_at, lost_at + interval '1 minute', reason, id, lost_at,
        lost_at + interval '2 minutes', lost_at + interval '12 minutes'
    from push_connections cross join sellers
    """,
    """
    insert into replays (id, seller_id, span, dry_run, state, finished_at, outcome, asked_by)
    select
        gen_random_uuid()::text, seller_id, '[2025-06-01,2025-06-02]', false, 'done', now(),
        jsonb_build_object(
            'replay', gen_random_uuid(), 'seller_id', seller_id, 'start', now(), 'end', now(),
            'dry_run', false, 'listed', 1440, 'hinted', 10, 'calls', 60, 'pulled_from', now(),
            'pulled_to', now(), 'state', 'done'
        ),
        'operator'
    from sellers cross join generate_series(1, 20)
    """,
    """
    insert into api_calls
    select date '2025-01-01' + d, 'taobao.trades.sold.increment.get' || api, 'sweep' || lane, 'answered', 1000
    from generate_series(1, 100) as d, generate_series(1, 20) as api, generate_series(1, 10) as lane
    """,
    """
    insert into open_letters (tid, kind, id, reason, event_id, seller_id)
    select
        4000000000000000000 + n, 'order', 4000000000000000000 + n, 'refused', gen_random_uuid(), 2200000000001
    from generate_series(1, 20000) as n
    """,
    "insert into dead_letter_retries (event_id) select gen_random_uuid() from generate_series(1, 20000)",
    """
    insert into refetches (tid, seller_id, event, occurred_at, settled_after, source, reason, due_at)
    select
        4000000000000000000 + n, 2200000000001, 'taobao_trade_TradePaid', now(), now(), 'push',
        'detail_behind', now()
    from generate_series(1, 20000) as n
    """,
    f"""
    insert into slice_rows (seller_id, slice, id, modified)
    select seller_id, 0, 4000000000000000000 + n, now()
    from sellers cross join generate_series(1, {COPIES * 10}) as n
    """,
)

INSERT_ORDERS: Final = """
insert into orders (
    tid, seller_id, created, modified, status, content_hash, fetched_at, source, published_revision, trade,
    step
)
select
    tid + 1000000 * copy, 2200000000000 + copy, now(), now(), 'TRADE_FINISHED', sha256(tid::text::bytea),
    now(), 'push', 1, trade::jsonb,
    '{"transitions": ["paid"], "status_from": "WAIT_BUYER_PAY", "changed": ["pay_time"]}'
from unnest($1::bigint[], $2::text[]) as t (tid, trade), generate_series(1, $3::integer) as copy
"""

INSERT_REFUNDS: Final = """
insert into refunds (
    refund_id, tid, oid, seller_id, created, modified, status, content_hash, fetched_at, source,
    published_revision, refund, step
)
select
    id + 1000000 * copy, id + copy, id + copy, 2200000000000 + copy, now(), now(), 'SUCCESS',
    sha256(id::text::bytea), now(), 'push', 1, refund::jsonb,
    '{"transitions": ["refund-closed"], "changed": ["status"]}'
from unnest($1::bigint[], $2::text[]) as t (id, refund), generate_series(1, $3::integer) as copy
"""


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table after a year."""

    table: str
    growth: Growth
    kept_days: float
    """Infinite where rows stay."""
    row_bytes: float

    @property
    def rows(self) -> float:
        return self.growth.after_a_year(self.kept_days)

    @property
    def gib(self) -> float:
        return self.rows * self.row_bytes / GIB

    @property
    def cells(self) -> tuple[str, ...]:
        kept = "" if math.isinf(self.kept_days) else f"{self.kept_days:g} days"
        return (
            f"`{self.table}`",
            f"{self.growth.daily:,.0f}" if self.growth.daily else "",
            kept,
            f"{self.rows:,.0f}",
            f"{self.row_bytes:,.0f}",
            f"{self.gib:,.2f}",
        )


@dataclass(frozen=True, slots=True)
class Total:
    """All tables after a year."""

    sizes: Sequence[TableSize]

    @property
    def cells(self) -> tuple[str, ...]:
        return ("all of them", "", "", "", "", f"{sum(size.gib for size in self.sizes):,.2f}")


async def run() -> Report:
    """Fill the tables, and look at their sizes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    async with ProcessGroup(run_folders.create()) as group:
        postgres = EmbeddedPostgres(group, group.folder / "postgres", durable=False)
        await postgres.start()
        own = DatabaseSettings(database_url=SecretStr(postgres.url))
        await schema.migrate(own)
        async with database.connect(own) as pool:
            await _fill(pool)
            measured = {table: await _row_bytes(pool, table) for table in DAILY}
    sizes = [
        TableSize(table, growth, days, measured[table])
        for (table, growth), days in zip(DAILY.items(), _kept_days(), strict=True)
    ]
    sizes.sort(key=lambda size: size.gib, reverse=True)
    return Report("sizes", _setup(), [*sizes, Total(sizes)], columns=COLUMNS)


def _kept_days() -> list[float]:
    """For how long rows of each table of `DAILY` are kept by default; infinite where they stay."""
    kafka = KafkaSettings(kafka_bootstrap_servers="none:1")
    kept = RetentionSettings().kept(kafka)
    letters_days = kafka.notices_retention_hours / 24

    def days(table: str) -> float:
        match TABLES[table]:
            case TableGrowth(rows=Goes(period=period)):
                return kept[period] / timedelta(days=1)
            case TableGrowth(grows_with=GrowsWith.FAULTS):
                return letters_days
            case _:
                return math.inf

    return [days(table) for table in DAILY]


async def _fill(pool: Pool) -> None:
    for filling in FILLINGS:
        await pool.execute(filling)
    world = World(
        WorldSettings(seed=1, sellers=1, orders=SAMPLES, start_second=int(time.time())), PlatformClock(None)
    )
    seller = world.books[0].seller
    book = world.book(seller)
    trades = [Trade.from_platform(_as_sent(world.trade(seller, number))) for number in book.numbers()]
    refunds = [
        Refund.from_platform(_as_sent(refund))
        for number in book.numbers()
        for refund in simulated_refunds.all_of(book, number)
    ]
    await pool.execute(
        INSERT_ORDERS, [trade.tid for trade in trades], [trade.to_wire() for trade in trades], COPIES
    )
    await pool.execute(
        INSERT_REFUNDS,
        [refund.refund_id for refund in refunds],
        [refund.to_wire() for refund in refunds],
        COPIES * 10,
    )
    await pool.execute("vacuum analyze")


async def _row_bytes(pool: Pool, table: str) -> float:
    found = await pool.fetchval(f"select pg_total_relation_size('{table}')::float8 / count(*) from {table}")
    return float(found)


def _as_sent(document: JsonObject) -> dict[str, object]:
    """As it comes from the wire."""
    sent: dict[str, object] = orjson.loads(orjson.dumps(document))
    return sent


def _setup() -> str:
    return (
        f"Reckoned for {SELLERS:,} sellers with {ORDERS_A_DAY} orders a day each, of which "
        f"{REFUND_SHARE:.0%} have a refund, that began with {PAST_DAYS} days of them; with the settings' "
        f"defaults: {SWEEPS_A_DAY} sweeps of each seller a day. Push is lost {LOSSES_A_DAY} times a day, and "
        f"{WAITING:,} orders wait to be asked for again. *Kept*: how long rows stay that do not stay for "
        "ever. Bytes a row are measured, from `pg_total_relation_size`: the table, its indexes, and the JSON "
        "beside its rows, in an embedded PostgreSQL that was filled with rows as the services write them "
        "(orders and refunds of the simulator), without dead rows. Tables that are not here have less than a "
        "row for each seller and day. A GiB is 2³⁰ bytes."
    )
