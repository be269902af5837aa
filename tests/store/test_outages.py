"""What is an outage, on a real server: read-only, another password, a failover to another address."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from tests.store.databases import killable_postgres, settings_for
from tests.support.eventually import eventually
from topsync.base import settings
from topsync.base.errors import UnreachableError
from topsync.base.rereading import Latest
from topsync.base.settings import DatabaseSettings
from topsync.budget.leases import Ask
from topsync.model.call_limits import APP, CallLimits
from topsync.model.priority import Priority
from topsync.store import database, schema
from topsync.store.database import OUTAGE_ERRORS, DatabaseAwayError, Pool
from topsync.store.shared_budget import open_book
from topsync.wiring import parts

PASSING = [
    "08000",
    "08001",
    "08003",
    "08004",
    "08006",
    "08007",
    "08P01",
    "25006",
    "25P03",
    "25P04",
    "28000",
    "28P01",
    "40000",
    "40001",
    "40003",
    "40P01",
    "53000",
    "53100",
    "53200",
    "53300",
    "53400",
    "55P03",
    "57000",
    "57014",
    "57P01",
    "57P02",
    "57P03",
    "57P04",
    "57P05",
    "58000",
    "58030",
    "58P01",
    "58P02",
]
"""Every code of the transient classes in PostgreSQL's manual, Appendix A."""

DEFECTS = [
    "0A000",
    "21000",
    "22001",
    "22003",
    "22012",
    "22P02",
    "23502",
    "23503",
    "23505",
    "23514",
    "25P02",
    "42501",
    "42601",
    "42P01",
    "XX000",
]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with database.connect(settings_for(database_url)) as pool:
        yield pool


async def raised_by_server(pool: Pool, code: str) -> Exception:
    with pytest.raises(asyncpg.PostgresError) as raised:
        await pool.execute(f"do $$ begin raise 'as it says it' using errcode = '{code}'; end $$")
    assert raised.value.sqlstate == code
    return raised.value


async def test_an_outage_and_a_defect_differ_by_the_class_of_their_sqlstate(pool: Pool) -> None:
    passing = [code for code in PASSING if isinstance(await raised_by_server(pool, code), OUTAGE_ERRORS)]
    assert passing == PASSING
    defects = [code for code in DEFECTS if not isinstance(await raised_by_server(pool, code), OUTAGE_ERRORS)]
    assert defects == DEFECTS


async def test_a_transaction_that_met_a_migration_is_tried_again(pool: Pool) -> None:
    await pool.execute("create table changed (one int); insert into changed values (1)")
    async with pool.acquire() as reader:
        await reader.fetch("select * from changed")
        await pool.execute("alter table changed add column two int")
        with pytest.raises(OUTAGE_ERRORS):
            async with reader.transaction():
                await reader.fetch("select * from changed")
        async with reader.transaction():
            assert dict(*await reader.fetch("select * from changed")) == {"one": 1, "two": None}


async def test_a_connection_to_a_read_only_server_is_not_kept(pool: Pool) -> None:
    """Another server may have its name or address by now."""
    await pool.execute("create table written (one int)")
    async with pool.acquire() as connection:
        await connection.execute("set default_transaction_read_only = on")
        before = connection.get_server_pid()
        with pytest.raises(OUTAGE_ERRORS):
            await connection.execute("insert into written values (1)")
    async with pool.acquire() as connection:
        assert connection.get_server_pid() != before
        await connection.execute("insert into written values (1)")


class Role:
    """A user of the server, and the file that the address of its database is in."""

    def __init__(self, admin: Pool, url: str, folder: Path) -> None:
        self.admin = admin
        self.name = f"rotated_{secrets.token_hex(4)}"
        self._url = urlsplit(url)
        self._file = folder / "TOPSYNC_DATABASE_URL"

    async def has(self, password: str) -> None:
        """Give the user another password, as an operator does first, and end its sessions."""
        await self.admin.execute(f"alter role {self.name} password '{password}'")
        await self.admin.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = $1", self.name
        )

    def is_configured(self, password: str) -> None:
        """Write it into the settings of the processes."""
        host = f"{self._url.hostname}:{self._url.port}"
        self._file.write_text(self._url._replace(netloc=f"{self.name}:{password}@{host}").geturl())


@pytest.fixture
async def role(
    pool: Pool, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Role]:
    monkeypatch.delenv("TOPSYNC_DATABASE_URL", raising=False)
    monkeypatch.setenv("TOPSYNC_SECRETS_DIR", str(tmp_path))
    role = Role(pool, database_url, tmp_path)
    await pool.execute(f"create role {role.name} login password 'first'")
    role.is_configured("first")
    yield role
    await pool.execute(f"drop role {role.name}")


async def test_a_changed_password_is_an_outage_until_it_is_in_the_file_and_needs_no_restart(
    role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    own = settings.load(DatabaseSettings)
    async with database.connect(own, Latest(own)) as running:
        assert await running.fetchval("select current_user") == role.name
        await role.has("second")
        # At first the pool may still have the session that has ended.
        await eventually(lambda: _is_refused(running))
        role.is_configured("second")
        assert await running.fetchval("select current_user") == role.name
        # A file that is broken for a moment changes nothing: the address that was read last works.
        role._file.write_text("no address")
        await running.expire_connections()
        assert await running.fetchval("select current_user") == role.name
    # The driver has no connection to keep open by itself, and so logs no trace.
    assert not [record for record in caplog.records if record.name.startswith("asyncpg")]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def _is_refused(pool: Pool) -> bool:
    with pytest.raises(OUTAGE_ERRORS) as raised:
        await pool.fetchval("select 1")
    return isinstance(raised.value, asyncpg.InvalidPasswordError)


async def test_a_wrong_password_at_the_first_start_is_one_line_at_once(role: Role) -> None:
    role.is_configured("wrong")
    async with asyncio.timeout(10):  # eight attempts would take longer
        with pytest.raises(UnreachableError, match=r"TOPSYNC_DATABASE_URL.*password authentication failed"):
            async with parts.open_pool():
                raise AssertionError("a wrong password was accepted")


@asynccontextmanager
async def lost_later(monkeypatch: pytest.MonkeyPatch, url: str) -> AsyncIterator[Pool]:
    """A command's pool; whatever the schema is."""

    async def is_fine(_: Pool) -> None:
        """No test here calls it."""

    monkeypatch.setenv("TOPSYNC_DATABASE_URL", url)
    monkeypatch.setattr("topsync.store.schema.require_schema", is_fine)
    async with parts.open_pool() as pool:
        yield pool


async def test_a_command_that_loses_the_database_reports_it_in_one_line(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnreachableError, match=r"TOPSYNC_DATABASE_URL.*read-only"):
        async with lost_later(monkeypatch, database_url) as pool:
            await pool.execute("begin read only; create table written (one int)")


async def test_a_defect_of_a_statement_is_no_outage_of_the_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with lost_later(monkeypatch, database_url) as pool:
            await pool.execute("select * from nowhere")


async def test_only_a_failed_connection_to_the_database_counts_as_its_outage() -> None:
    with pytest.raises(DatabaseAwayError):
        async with database.connect(settings_for("postgresql://nobody@127.0.0.1:1/nothing")):
            raise AssertionError("somebody listens on port 1")


async def test_after_a_failover_the_pool_finds_the_writable_server() -> None:
    async with killable_postgres() as first, killable_postgres() as second:
        for server, writable in ((first, True), (second, False)):
            await _as_admin(server.url, "alter role topsync password 'shared'", writable=True)
            await _set_writable(server.url, writable)
        hosts = ",".join(f"127.0.0.1:{urlsplit(server.url).port}" for server in (first, second))
        own = DatabaseSettings(database_url=SecretStr(f"postgresql://topsync:shared@{hosts}/postgres"))
        async with database.connect(own) as pool:
            await pool.execute("create table written_by_the_first (one int)")
            await _set_writable(first.url, False)
            with pytest.raises(OUTAGE_ERRORS):
                await pool.execute("create table written_by_nobody (one int)")
            with pytest.raises(OUTAGE_ERRORS):  # no server is writable yet
                await pool.execute("create table written_by_nobody (one int)")
            await _set_writable(second.url, True)
            await pool.execute("create table written_by_the_second (one int)")
            await first.kill()
            await pool.execute("insert into written_by_the_second values (1)")


async def _set_writable(url: str, writable: bool) -> None:
    value = "off" if writable else "on"
    await _as_admin(url, f"alter system set default_transaction_read_only = {value}", writable=True)
    await _as_admin(url, "select pg_reload_conf()", writable=True)

    async def is_in_force() -> bool:
        shown: object = await _as_admin(url, "show default_transaction_read_only", writable=False)
        return shown == value

    # The server learns it some time later; then all connections have it, new and open.
    await eventually(is_in_force)


async def _as_admin(url: str, statement: str, *, writable: bool) -> object:
    parts = urlsplit(url)
    for password in (parts.password, "shared"):
        try:
            connection = await asyncpg.connect(url, password=password)
        except asyncpg.InvalidPasswordError:
            continue
        if writable:
            await connection.execute("set default_transaction_read_only = off")
        found: object = await connection.fetchval(statement)
        await connection.close()
        return found
    raise AssertionError("neither password is the server's")


async def test_a_defect_in_a_lease_is_raised_and_not_waited_for(database_url: str, pool: Pool) -> None:
    """Otherwise callers would wait for ever, and nobody would know why."""
    own, limits = settings_for(database_url), CallLimits(calls_per_second=1)
    await schema.migrate(own)
    async with open_book(own, pool, lambda: limits) as book:
        await pool.execute("alter table call_budget rename to elsewhere")
        with pytest.raises(asyncpg.UndefinedTableError):
            await book.lease(Ask(Priority.LIVE, APP, 1))
