"""The schema: migrated once, beside live traffic, and required by every other process."""

from __future__ import annotations

import asyncio
import functools
import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.store.databases import settings_for
from tests.support.eventually import eventually
from topsync.base import retry
from topsync.base.settings import DatabaseSettings
from topsync.store import database, schema
from topsync.store.database import Pool
from topsync.store.schema import Migration, SchemaError

NEXT = 9999
AT_ONCE = retry.Policy(max_attempts=2, first_wait_seconds=0.0, max_wait_seconds=0.0)
OFTEN = retry.Policy(max_attempts=1000, first_wait_seconds=0.01, max_wait_seconds=0.01)

FORMER_RECORD = "insert into migrations (number, name) values ($1, $2)"
"""As a version that keeps no checksums writes it."""

INDEX = """-- without a transaction
drop index concurrently if exists findings_by_id;
create index concurrently findings_by_id on witness_findings (id);
"""

VALID = "select indisvalid from pg_index where indexrelid = 'findings_by_id'::regclass"

DONE = "select exists (select from migrations where number = $1)"


@pytest.fixture
def own(database_url: str) -> DatabaseSettings:
    return settings_for(database_url)


def with_another(monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    """Add a migration with this text; returns its name."""
    another = Migration(NEXT, f"{NEXT}_another.sql", text)
    known = [*schema.migrations(), another]
    monkeypatch.setattr(schema, "migrations", lambda: known)
    return another.name


@asynccontextmanager
async def migrated(own: DatabaseSettings) -> AsyncIterator[Pool]:
    await schema.migrate(own)
    async with database.connect(own) as pool:
        yield pool


async def test_a_process_refuses_a_database_without_the_schema_and_says_what_to_run(
    own: DatabaseSettings,
) -> None:
    async with database.connect(own) as pool:
        with pytest.raises(SchemaError, match=r"0001_initial.sql.*run `topsync migrate`"):
            await schema.require_schema(pool)
        await schema.migrate(own)
        await schema.require_schema(pool)


async def test_migrating_again_changes_nothing(own: DatabaseSettings) -> None:
    assert await schema.migrate(own) == [migration.name for migration in schema.migrations()]
    assert await schema.migrate(own) == []


async def test_processes_that_migrate_at_the_same_time_apply_each_migration_once(
    own: DatabaseSettings,
) -> None:
    applied = await asyncio.gather(*(schema.migrate(own) for _ in range(4)))
    names = [migration.name for migration in schema.migrations()]
    assert sorted(functools.reduce(operator.iadd, applied, [])) == names
    async with database.connect(own) as pool:
        assert await pool.fetchval("select count(*) from migrations") == len(names)


async def test_a_migration_that_fails_leaves_nothing_behind_and_lets_the_lock_go(
    own: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        with_another(patch, "create table half (id int); select no_such_function()")
        with pytest.raises(asyncpg.UndefinedFunctionError):
            await schema.migrate(own)
    async with asyncio.timeout(30):
        assert await schema.migrate(own) == []
    async with database.connect(own) as pool:
        assert await pool.fetchval("select to_regclass('half') is null")


def test_migrations_have_consecutive_numbers() -> None:
    numbers = [migration.number for migration in schema.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_migration_may_take_longer_than_any_statement_of_a_service(
    own: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both bounds: the client's, and the server's for the user."""
    impatient = own.model_copy(update={"database_command_timeout_seconds": 0.05})
    async with migrated(own) as pool:
        name = await pool.fetchval("select current_database()")
        await pool.execute(f"alter database {name} set statement_timeout = '50ms'")
    slow = with_another(monkeypatch, "select pg_sleep(0.5); create table slow (id int)")
    assert await schema.migrate(impatient) == [slow]


async def test_a_migration_that_cannot_get_its_lock_lets_live_traffic_pass_and_tries_again(
    own: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_SECONDS", 0.1)
    async with migrated(own) as pool:
        changed = with_another(monkeypatch, "alter table gaps add column note text")
        async with pool.acquire() as busy:
            long = busy.transaction()
            await long.start()
            await busy.fetch("select * from gaps")
            migrating = asyncio.create_task(schema.migrate(own, lock_waits=OFTEN))
            await eventually(lambda: _waits_for_a_lock(pool))
            # It waits behind the migration, and runs long before the transaction ends.
            async with asyncio.timeout(10):
                await pool.fetch("select * from gaps")
            assert not migrating.done()
            assert not await pool.fetchval(DONE, NEXT)
            await long.rollback()
        assert await migrating == [changed]


async def _waits_for_a_lock(pool: Pool) -> bool:
    return await _is_migrating(pool, "wait_event_type = 'Lock'")


async def _is_connected_and_idle(pool: Pool) -> bool:
    return await _is_migrating(pool, "state = 'idle' and query like '%pg_try_advisory_lock%'")


async def _is_migrating(pool: Pool, condition: str) -> bool:
    """Whether a session of a migration is in a condition."""
    return bool(
        await pool.fetchval(
            "select exists (select from pg_stat_activity where application_name = 'topsync migrate' "
            f"and datname = current_database() and {condition})"
        )
    )


async def test_a_migration_that_never_gets_its_lock_gives_up_and_says_which_session_to_end(
    own: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_SECONDS", 0.05)
    async with migrated(own) as pool:
        changed = with_another(monkeypatch, "alter table gaps add column note text")
        async with pool.acquire() as busy, busy.transaction():
            await busy.fetch("select * from gaps")
            with pytest.raises(SchemaError, match=rf"{changed} needs a lock .*pg_stat_activity"):
                await schema.migrate(own, lock_waits=AT_ONCE)


async def test_a_migration_without_a_transaction_builds_indexes_while_live_traffic_writes(
    own: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the transactions before it, and nobody waits for it, however long that takes."""
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_SECONDS", 0.05)
    add = "insert into witness_findings (partition, record_offset, id, finding) values (0, $1, 1, 'x')"
    async with migrated(own) as pool:
        index = with_another(monkeypatch, INDEX)
        async with pool.acquire() as busy:
            long = busy.transaction()
            await long.start()
            await busy.execute(add, 1)
            migrating = asyncio.create_task(schema.migrate(own, lock_waits=AT_ONCE))
            await eventually(lambda: _waits_for_a_lock(pool))
            async with asyncio.timeout(10):
                await pool.execute(add, 2)
            assert not migrating.done()
            await long.commit()
        assert await migrating == [index]
        assert await pool.fetchval(VALID)
        # What comes next waits for locks as before.
        assert await pool.fetchval(DONE, NEXT)


async def test_an_index_that_was_cut_short_is_built_again(
    own: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt fails in the middle: what it left is not valid, and nothing is noted."""
    async with migrated(own) as pool:
        for offset in (1, 2):
            await pool.execute(
                "insert into witness_findings (partition, record_offset, id, finding) values (0, $1, 1, 'x')",
                offset,
            )
        with_another(monkeypatch, INDEX.replace("create index", "create unique index"))
        with pytest.raises(asyncpg.UniqueViolationError):
            await schema.migrate(own)
        assert await pool.fetchval(VALID) is False
        assert not await pool.fetchval(DONE, NEXT)
        await pool.execute("delete from witness_findings where record_offset = 2")
        assert len(await schema.migrate(own)) == 1
        assert await pool.fetchval(VALID)


def test_a_migration_says_on_its_first_line_that_it_is_no_transaction() -> None:
    assert Migration(NEXT, "x", "create table a (id int);\n-- without a transaction\n").steps is None
    drop, create = Migration(NEXT, "x", INDEX).steps or []
    assert drop.endswith("drop index concurrently if exists findings_by_id")
    assert create.startswith("create index concurrently findings_by_id")


async def test_a_process_that_waits_for_another_migration_runs_no_statement_meanwhile(
    own: DatabaseSettings,
) -> None:
    """A statement that waits keeps all dead rows of the database from being removed."""
    async with migrated(own) as pool, pool.acquire() as other:
        assert await database.try_lock(other, schema._MIGRATION_LOCK)
        waiting = asyncio.create_task(schema.migrate(own))
        await eventually(lambda: _is_connected_and_idle(pool))
        assert not waiting.done()
        await database.unlock(other, schema._MIGRATION_LOCK)
        assert await waiting == []


async def test_a_released_migration_that_was_changed_is_refused_by_name_and_nothing_is_applied(
    own: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrated(own) as pool:
        former = schema.migrations()
        changed = former[2]._replace(text=former[2].text + "\nselect 1")
        following = Migration(NEXT, f"{NEXT}_another.sql", "create table another (id int)")
        monkeypatch.setattr(schema, "migrations", lambda: [*former[:2], changed, *former[3:], following])
        with pytest.raises(SchemaError, match=f"{changed.name} is not the {changed.name} that"):
            await schema.migrate(own)
        assert not await pool.fetchval(DONE, NEXT)


async def test_another_migration_with_the_number_of_an_applied_migration_is_refused(
    own: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schema.migrate(own)
    renamed = [each._replace(name=f"x{each.name}") for each in schema.migrations()]
    monkeypatch.setattr(schema, "migrations", lambda: renamed)
    with pytest.raises(SchemaError, match=r"x0001_initial.sql is not the 0001_initial.sql"):
        await schema.migrate(own)


async def test_a_former_version_applies_migrations_without_a_checksum_and_the_next_version_adds_them(
    own: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrated(own) as pool:
        await pool.execute("alter table migrations drop column checksum")
        await pool.execute("delete from migrations where number = 1")
        await pool.execute(FORMER_RECORD, 1, "0001_initial.sql")
        assert await schema.migrate(own) == []
        kept = await pool.fetch("select number, checksum from migrations order by number")
        known = schema.migrations()
        assert [tuple(row) for row in kept] == [(each.number, each.checksum) for each in known]
        # With the newest schema, a former version still writes no checksums.
        with_another(monkeypatch, "select 1")
        await pool.execute(FORMER_RECORD, NEXT, f"{NEXT}_another.sql")
        assert await schema.migrate(own) == []
        assert await pool.fetchval("select count(*) from migrations where checksum is null") == 0
