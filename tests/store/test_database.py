"""Connections to PostgreSQL: their locks, what counts as an outage, and statements by name."""

from __future__ import annotations

import asyncio
import re
from importlib import resources
from typing import Any

import asyncpg
import pytest

from tests.store.databases import settings_for
from tests.support.eventually import eventually
from topsync.store import database, orders, refunds
from topsync.store.database import OUTAGE_ERRORS
from topsync.store.versions import VersionTable


async def test_an_advisory_lock_has_one_holder_until_it_is_given_back(database_url: str) -> None:
    async with (
        database.connect(settings_for(database_url)) as pool,
        pool.acquire() as first,
        pool.acquire() as second,
    ):
        assert await database.try_lock(first, 7)
        assert not await database.try_lock(second, 7)
        await database.unlock(first, 7)
        assert await database.try_lock(second, 7)


async def test_a_lock_that_cannot_be_given_back_ends_with_its_connection(database_url: str) -> None:
    """In the pool, an unused connection would hold it, and no other process could lead."""
    async with database.connect(settings_for(database_url)) as pool, pool.acquire() as other:
        async with pool.acquire() as failing:
            assert await database.try_lock(failing, 7)
            await failing.execute("begin")
            with pytest.raises(asyncpg.DivisionByZeroError):
                await failing.execute("select 1 / 0")
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await database.unlock(failing, 7)
        await eventually(lambda: database.try_lock(other, 7))


def test_every_statement_of_the_sql_files_has_a_name_and_a_body() -> None:
    files = [file for file in resources.files("topsync.store").joinpath("sql").iterdir() if file.is_file()]
    assert {"orders.sql", "refunds.sql", "versions.sql"} <= {file.name for file in files}
    for file in files:
        for verb in re.findall(r"^-- name: (\S+)$", file.read_text("utf-8"), re.MULTILINE):
            assert database.sql(f"{file.name.removesuffix('.sql')}.{verb}")


@pytest.mark.parametrize("table", [orders.TABLE, refunds.TABLE], ids=lambda table: table.kind.plural)
async def test_the_database_understands_every_statement_of_a_table_of_versions(
    migrated_database_url: str, table: VersionTable[Any, Any]
) -> None:
    async with database.connect(settings_for(migrated_database_url)) as pool, pool.acquire() as connection:
        for verb in database.statements("versions"):
            text = table.statement(verb)
            assert not re.search(r"\{\w+\}", text), "a placeholder that was not filled"
            await connection.prepare(text)


async def test_a_statement_that_ends_in_a_deadlock_is_tried_again_as_in_an_outage(
    database_url: str,
) -> None:
    """A process that ended because of it would lose all its partitions."""
    keys = (1, 2)
    both_hold = asyncio.Barrier(2)

    async def lock(pool: database.Pool, first: int, second: int) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", first)
            await both_hold.wait()
            await connection.execute("select pg_advisory_xact_lock($1)", second)

    async with database.connect(settings_for(database_url)) as pool:
        ends = await asyncio.gather(lock(pool, *keys), lock(pool, *reversed(keys)), return_exceptions=True)
    (undone,) = [end for end in ends if end is not None]
    assert isinstance(undone, OUTAGE_ERRORS)
