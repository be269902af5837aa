"""Connections to PostgreSQL: the pool, what an outage looks like, locks that go with a connection."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg

from topsync import telemetry
from topsync.settings import DatabaseSettings

log = telemetry.get_logger(__name__)

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    OwnConnection = asyncpg.Connection[asyncpg.Record]
    Connection = OwnConnection | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:  # the driver's own classes know their parameters only in its stubs
    Pool = asyncpg.Pool
    OwnConnection = Connection = asyncpg.Connection

_STATEMENT_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)

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

CONNECT_SECONDS = 60.0
"""Until a connection is made; the driver's own bound."""


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
        server_settings={"application_name": "topsync", "timezone": "UTC"},
        reset=_keep_as_it_is,
    ) as pool:
        yield pool


async def connect_once(
    settings: DatabaseSettings,
    *,
    timeout_seconds: float = CONNECT_SECONDS,
    command_timeout_seconds: float | None,
    server_settings: dict[str, str],
) -> OwnConnection:
    """A connection outside any pool, to be closed by the caller. Without a command time-out, none is bounded.

    Raises:
        OSError, asyncpg.PostgresError: the database cannot be reached.
    """
    return await asyncpg.connect(
        settings.database_url.get_secret_value(),
        timeout=timeout_seconds,
        command_timeout=command_timeout_seconds,
        server_settings=server_settings,
    )


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
