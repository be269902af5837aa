"""A migrated database, and rows to write into it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from schemas import platform_time
from schemas.refund import Refund
from schemas.trade import Trade
from topsync.base.settings import DatabaseSettings
from topsync.local import run_folders
from topsync.local.postgres import EmbeddedPostgres
from topsync.local.processes import ProcessGroup
from topsync.model.unpublished import Unpublished
from topsync.store import database, schema, sellers
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.refunds import RefundVersion
from topsync.store.versions import T, V, VersionTable

BASE = datetime(2025, 11, 20, 2, tzinfo=UTC)
SELLER = 2200000000001


def at(second: float) -> datetime:
    return BASE + timedelta(seconds=second)


def settings_for(url: str) -> DatabaseSettings:
    return DatabaseSettings(database_url=SecretStr(url), database_pool_size=4)


@pytest.fixture(scope="session")
def migrated_database_url(database_server_url: str) -> Iterator[str]:
    """Address of a migrated database that tests use in turn: to create a database takes half a second."""
    name = f"topsync_test_{secrets.token_hex(8)}"
    url = urlsplit(database_server_url)._replace(path=f"/{name}").geturl()

    async def migrate() -> None:
        await _on_server(database_server_url, f"CREATE DATABASE {name}")
        await schema.migrate(settings_for(url))

    asyncio.run(migrate())
    yield url
    asyncio.run(_on_server(database_server_url, f"DROP DATABASE {name} WITH (FORCE)"))


@asynccontextmanager
async def killable_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """A durable server for a single test."""
    async with ProcessGroup(run_folders.create()) as group:
        postgres = EmbeddedPostgres(group, group.folder / "postgres")
        await postgres.start()
        yield postgres


async def _on_server(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def emptied(url: str, *, connections: int = 4) -> AsyncIterator[Pool]:
    """A pool on the migrated database, with nothing in it but two sellers."""
    settings = settings_for(url).model_copy(update={"database_pool_size": connections})
    async with database.connect(settings) as pool:
        await empty(pool)
        await sellers.add(pool, seller_id=SELLER, nick="demo_one", session_cipher=b"one")
        await sellers.add(pool, seller_id=SELLER + 1, nick="demo_two", session_cipher=b"two")
        yield pool


LARGE_BYTES = 4_000_000

TABLES = """
select format('%I', tablename) as name, pg_relation_size(format('%I', tablename)::regclass) > $1 as is_large
from pg_tables where schemaname = 'public' and tablename <> 'migrations'
"""

COUNTERS = """
select format('%I', sequencename) from pg_sequences where schemaname = 'public' and last_value is not null
"""


ALWAYS_THERE = "insert into visibility default values"
"""The row that a migration makes."""


async def empty(pool: Pool) -> None:
    """Delete all rows. Few tables have any after a test, and to truncate all takes ten times as long."""
    tables = await pool.fetch(TABLES, LARGE_BYTES)
    names = [table["name"] for table in tables]
    if any(table["is_large"] for table in tables):
        await pool.execute(f"truncate {', '.join(names)} restart identity; {ALWAYS_THERE}")
        return
    used = await pool.fetch(
        " union all ".join(f"select '{name}' where exists (select from {name})" for name in names)
    )
    counters = await pool.fetch(COUNTERS)
    await pool.execute(
        # Foreign keys would ask for an order of deletion.
        "begin; set local session_replication_role = replica; "
        + "".join(f"delete from {name}; " for (name,) in used)
        + "".join(f"alter sequence {name} restart; " for (name,) in counters)
        + f"{ALWAYS_THERE}; commit"
    )


def platform_trade(tid: int, modified: float = 0, **fields: object) -> dict[str, object]:
    """A small trade as the platform sends it."""
    return {
        "tid": tid,
        "status": "WAIT_SELLER_SEND_GOODS",
        "created": platform_time.format(at(-3600)),
        "modified": platform_time.format(at(modified)),
        "payment": "186.00",
        "orders": {"order": [{"oid": tid, "payment": "186.00"}]},
        **fields,
    }


def trade(tid: int, modified: float = 0, **fields: object) -> Trade:
    return Trade.from_platform(platform_trade(tid, modified, **fields))


def version(
    tid: int, modified: float, fetched: float, *, source: str = "push", **fields: object
) -> OrderVersion:
    return OrderVersion(SELLER, Trade.read(platform_trade(tid, modified, **fields)), at(fetched), source)


def platform_refund(refund_id: int, tid: int, modified: float = 0, **fields: object) -> dict[str, object]:
    """A small refund as the platform sends it."""
    return {
        "refund_id": str(refund_id),
        "tid": tid,
        "oid": tid,
        "status": "WAIT_SELLER_AGREE",
        "created": platform_time.format(at(-1800)),
        "modified": platform_time.format(at(modified)),
        "refund_fee": "186.00",
        **fields,
    }


def refund_version(
    refund_id: int, tid: int, modified: float, fetched: float, *, source: str = "push", **fields: object
) -> RefundVersion:
    refund = Refund.read(platform_refund(refund_id, tid, modified, **fields))
    return RefundVersion(SELLER, refund, at(fetched), source)


LOCKS_AWAITED = """
select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""


async def until_a_lock_is_awaited(pool: Pool) -> None:
    """Return when some statement waits for a lock."""
    async with asyncio.timeout(5):
        while not await pool.fetchval(LOCKS_AWAITED):  # noqa: ASYNC110 -- it happens in the server
            await asyncio.sleep(0.01)


async def all_unpublished(pool: Pool, table: VersionTable[V, T]) -> list[Unpublished[T]]:
    """Every version of a table that still has to be published."""
    return await table.unpublished(pool, [key for key, _ in await table.unpublished_ids(pool)])
