"""Connections to PostgreSQL: the pool, the errors of an outage, locks that end with their connection."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache, partial
from importlib import resources
from typing import TYPE_CHECKING, Final

import asyncpg

from topsync.base import identity
from topsync.base.settings import DatabaseSettings
from topsync.store import hosts, sqlstates
from topsync.store.sqlstates import Errors

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    OwnConnection = asyncpg.Connection[asyncpg.Record]
    Connection = OwnConnection | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:  # the driver's classes take type parameters only in its stubs
    Pool = asyncpg.Pool
    OwnConnection = Connection = asyncpg.Connection

_STATEMENT_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)


class DatabaseAwayError(ConnectionError):
    """No connection to the database could be made."""


class CertificateRefusedError(DatabaseAwayError):
    """The server shows no certificate of the authority in its address, or one for another name."""


OUTAGE_ERRORS: Errors = (
    *sqlstates.errors_of(*sqlstates.OUTAGES),
    OSError,
    TimeoutError,
    # The driver's errors for a connection that ended. It raises the second in the middle of an exchange, when
    # the pool takes a connection back, and when no host of the address takes writes.
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    # A migration changed what a statement in a transaction reads: the next attempt prepares it anew.
    asyncpg.InvalidCachedStatementError,
)
"""Raised by a statement that the database has undone, or while the database is away, starting, stopping, full
or read-only: try again later."""

LOST_ERRORS: Errors = (
    *(each for each in OUTAGE_ERRORS if not issubclass(each, OSError)),
    DatabaseAwayError,
)
"""Those of `OUTAGE_ERRORS` that only the database can have raised."""

REFUSALS: Errors = (*OUTAGE_ERRORS, asyncpg.InvalidCatalogNameError, asyncpg.InsufficientPrivilegeError)
"""What a first connection may meet: the database is away, does not exist, or is closed to this user."""

_AUTHORISATION_ERRORS: Errors = sqlstates.errors_of(*sqlstates.AUTHORISATION)

SERVER = "the database (TOPSYNC_DATABASE_URL)"

IDLE_TRANSACTION: Final = "5s"
"""A transaction whose process stands still for so long is undone by the server, with its locks."""

CONNECT_SECONDS = 60.0
"""How long connecting may take; the driver's default."""

Address = Callable[[], DatabaseSettings]
"""Returns the database's present address, and does not fail (`topsync/base/rereading.py`)."""


@asynccontextmanager
async def connect(settings: DatabaseSettings, address: Address | None = None) -> AsyncIterator[Pool]:
    """A pool on the configured database, closed at the end. It asks `address` before each connection.

    Raises:
        DatabaseAwayError, asyncpg.PostgresError: the database cannot be reached.
    """

    async def connect_anew(*_: object, **__: object) -> OwnConnection:
        return await connect_once(
            settings,
            address,
            command_timeout_seconds=settings.database_command_timeout_seconds,
            server_settings={"application_name": identity.connection_name(), "timezone": "UTC"},
        )

    async with asyncpg.create_pool(
        # Make a connection now, so that a failure shows here. With a minimum size, the driver would keep up
        # connections by itself, and log a traceback for each failure.
        init_size=1,
        min_size=0,
        max_size=settings.database_pool_size,
        connect=connect_anew,
        reset=_keep_unless_read_only,
    ) as pool:
        yield pool


async def connect_once(
    settings: DatabaseSettings,
    address: Address | None = None,
    *,
    timeout_seconds: float = CONNECT_SECONDS,
    command_timeout_seconds: float | None,
    server_settings: dict[str, str],
) -> OwnConnection:
    """A connection outside any pool; the caller closes it. By default its statements have no time-out.

    Raises:
        DatabaseAwayError, asyncpg.PostgresError: the database cannot be reached.
    """
    url = (settings if address is None else address()).database_url.get_secret_value()
    connecting = partial(
        asyncpg.connect,
        timeout=timeout_seconds,
        command_timeout=command_timeout_seconds,
        server_settings=server_settings,
    )
    try:
        if hosts.are_several(url):
            return await hosts.connect_to_newest(url, connecting, _timeline)
        return await connecting(url)
    except ssl.SSLCertVerificationError as error:
        raise CertificateRefusedError(f"its certificate is refused: {error.verify_message}") from error
    except OSError as error:  # a time-out is an OSError, too
        raise DatabaseAwayError(str(error) or type(error).__name__) from error


def may_come(error: Exception) -> bool:
    """Whether waiting may help at the first connection: the database is starting, and nobody is refused."""
    return isinstance(error, OUTAGE_ERRORS) and not isinstance(
        error, (*_AUTHORISATION_ERRORS, CertificateRefusedError)
    )


async def _timeline(connection: OwnConnection) -> int:
    """The server's timeline. Where its provider has none, or does not show it, the order of hosts decides."""
    with suppress(asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError):
        return int(await connection.fetchval(sql("hosts.timeline")))
    return hosts.UNKNOWN


async def _keep_unless_read_only(connection: OwnConnection) -> None:
    """Called by the pool when a connection comes back; makes no round trip.

    Our code leaves nothing behind in a session except advisory locks, which `unlock` removes. If the server
    takes no writes, another server may have replaced it: then the connection is closed, and the next
    connection may find the new server.
    """
    if is_read_only(connection):
        connection.terminate()


def is_read_only(connection: Connection) -> bool:
    """Whether the server has said that it takes no writes; PostgreSQL 14 and later say so by themselves."""
    reported = connection.get_settings()
    return "on" in (
        getattr(reported, "in_hot_standby", "off"),
        getattr(reported, "default_transaction_read_only", "off"),
    )


def sql(name: str) -> str:
    """A statement by its name, `noun.verb`: the section `-- name: verb` of `store/sql/noun.sql`."""
    noun, verb = name.split(".")
    return statements(noun)[verb]


@cache
def statements(noun: str) -> Mapping[str, str]:
    """The sections of `store/sql/noun.sql`, by their names."""
    text = resources.files("topsync.store").joinpath("sql", f"{noun}.sql").read_text("utf-8")
    pieces = _STATEMENT_NAME.split(text)
    return {name: body.strip() for name, body in zip(pieces[1::2], pieces[2::2], strict=True)}


async def try_lock(connection: Connection, key: int) -> bool:
    """Take an advisory lock for as long as this connection lives; false when another has it."""
    with _ended_by_failure(connection):
        return bool(await connection.fetchval("select pg_try_advisory_lock($1)", key))


async def try_shared_lock(connection: Connection, key: int) -> bool:
    """Take an advisory lock together with others, as `try_lock` does alone."""
    with _ended_by_failure(connection):
        return bool(await connection.fetchval("select pg_try_advisory_lock_shared($1)", key))


async def unlock(connection: Connection, key: int) -> None:
    """Give an advisory lock back. If its connection has ended, or ends now, it is given back by that."""
    if not _has_ended(connection):
        with suppress(*OUTAGE_ERRORS), _ended_by_failure(connection):
            await connection.execute("select pg_advisory_unlock($1)", key)


async def unlock_all(connection: Connection) -> None:
    """Give back every advisory lock of a connection that nobody else uses."""
    if not _has_ended(connection):
        with _ended_by_failure(connection):
            await connection.execute("select pg_advisory_unlock_all()")


async def try_transaction_lock(connection: Connection, key: int) -> bool:
    """Take an advisory lock until the transaction ends; false when another has it."""
    return bool(await connection.fetchval("select pg_try_advisory_xact_lock($1)", key))


async def wait_for_transaction_lock(connection: Connection, key: int) -> None:
    """Take an advisory lock until the transaction ends, after whoever has it."""
    await connection.execute("select pg_advisory_xact_lock($1)", key)


async def end_when_idle(connection: Connection) -> None:
    """Let the server undo this transaction, and end the session, when its process stands still within it.

    Otherwise a frozen process would hold its locks for as long as its connection lives.
    """
    await connection.execute(
        "select set_config('idle_in_transaction_session_timeout', $1, true)", IDLE_TRANSACTION
    )


def _has_ended(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # A connection of a pool: the pool has taken it back, because it ended.
        return True


@contextmanager
def _ended_by_failure(connection: Connection) -> Iterator[None]:
    """End the connection on failure or cancellation: only then is it certain that the lock is not held."""
    try:
        yield
    except BaseException:
        connection.terminate()
        raise
