"""The connection pool and the migrations."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg

from topsync import identity, telemetry
from topsync.errors import OperatorError
from topsync.settings import DatabaseSettings

log = telemetry.get_logger(__name__)

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:  # the driver's own classes know their parameters only in its stubs
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

_MIGRATION_LOCK = 0x746F7073
"""Advisory lock that keeps two migrating processes apart (the letters `tops`)."""

_STATEMENT_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)
_MIGRATION_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")

OUTAGE_ERRORS: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # Said now and then when the server dies in the middle of an exchange.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    # Raised by the pool, in place of AdminShutdownError, as it takes back a connection that just got one.
    asyncpg.InternalClientError,
    # The server has undone the statement, because it waited for others in a circle.
    asyncpg.DeadlockDetectedError,
)
"""What a statement raises that the database has undone, or while it is away, starting or stopping: try again
later."""


REFUSALS: tuple[type[BaseException], ...] = (
    *OUTAGE_ERRORS,
    asyncpg.InvalidAuthorizationSpecificationError,  # with it, a wrong password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
"""What keeps somebody out for whom all of it is new: away, or not there, or not for this user."""

SERVER = "the database (TOPSYNC_DATABASE_URL)"


class SchemaError(OperatorError):
    """The database's schema is not the one that this code was written for."""


@asynccontextmanager
async def connect(settings: DatabaseSettings) -> AsyncIterator[Pool]:
    """A pool on the configured database, closed at the end.

    Raises:
        OSError, asyncpg.PostgresError: the database cannot be reached.
    """
    async with asyncpg.create_pool(
        settings.database_url.get_secret_value(),
        min_size=1,
        max_size=settings.database_pool_size,
        command_timeout=settings.database_command_timeout_seconds,
        server_settings={"application_name": identity.connection_name(), "timezone": "UTC"},
        reset=_keep_as_it_is,
    ) as pool:
        yield pool


async def _keep_as_it_is(_: object) -> None:
    """What a pool does with a connection that comes back: nothing, in place of a round trip of its own.

    Nothing here leaves anything behind in a session but advisory locks, and `unlock` sees to those.
    """


def sql(name: str) -> str:
    """A statement by its name, `noun.verb`: the section `-- name: verb` of `store/sql/noun.sql`."""
    noun, verb = name.split(".")
    return _statements(noun)[verb]


@cache
def _statements(noun: str) -> dict[str, str]:
    text = resources.files("topsync.store").joinpath("sql", f"{noun}.sql").read_text("utf-8")
    pieces = _STATEMENT_NAME.split(text)
    return {name: body.strip() for name, body in zip(pieces[1::2], pieces[2::2], strict=True)}


def migrations() -> list[tuple[int, str, str]]:
    """All migrations as (number, name, text), in order."""
    found = []
    for entry in resources.files("topsync.store").joinpath("migrations").iterdir():
        match = _MIGRATION_NAME.match(entry.name)
        if match:
            found.append((int(match[1]), entry.name, entry.read_text("utf-8")))
    return sorted(found)


async def migrate(pool: Pool) -> list[str]:
    """Bring the schema up to date; each migration is one transaction. Returns the names applied now."""
    applied = []
    async with pool.acquire() as connection:
        with _ended_by_failure(connection):
            await connection.execute("select pg_advisory_lock($1)", _MIGRATION_LOCK)
        try:
            await connection.execute(sql("migrations.create"))
            done = {row["number"] for row in await connection.fetch(sql("migrations.applied"))}
            for number, name, text in migrations():
                if number in done:
                    continue
                async with connection.transaction():
                    await connection.execute(text)
                    await connection.execute(sql("migrations.record"), number, name)
                applied.append(name)
                log.info("migrated", migration=name)
        finally:
            await unlock(connection, _MIGRATION_LOCK)
    return applied


async def try_lock(connection: Connection, key: int) -> bool:
    """Take an advisory lock for as long as this connection lives; false when another has it."""
    with _ended_by_failure(connection):
        return bool(await connection.fetchval("select pg_try_advisory_lock($1)", key))


async def unlock(connection: Connection, key: int) -> None:
    """Give an advisory lock back; one that went with its connection is given back already."""
    if not connection.is_closed():
        with _ended_by_failure(connection):
            await connection.execute("select pg_advisory_unlock($1)", key)


@contextmanager
def _ended_by_failure(connection: Connection) -> Iterator[None]:
    """Who fails or is cancelled here cannot know whether the lock is held: it goes with the connection."""
    try:
        yield
    except BaseException:
        connection.terminate()
        raise


async def require_schema(pool: Pool) -> None:
    """Check that every migration has been applied.

    Raises:
        SchemaError: the text names what is missing and what to run.
    """
    exists = await pool.fetchval("select to_regclass('migrations') is not null")
    done = {row["number"] for row in await pool.fetch(sql("migrations.applied"))} if exists else set()
    missing = [name for number, name, _ in migrations() if number not in done]
    if missing:
        raise SchemaError(f"the database lacks {', '.join(missing)}: run `topsync migrate` first")
