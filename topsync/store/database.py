"""Connections to PostgreSQL: the pool, what an outage looks like, locks that go with a connection."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from topsync.base import identity, telemetry
from topsync.base.settings import DatabaseSettings, SettingsError
from topsync.store import sqlstates
from topsync.store.sqlstates import Errors

log = telemetry.get_logger(__name__)

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    OwnConnection = asyncpg.Connection[asyncpg.Record]
    Connection = OwnConnection | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:  # the driver's own classes know their parameters only in its stubs
    Pool = asyncpg.Pool
    OwnConnection = Connection = asyncpg.Connection

_STATEMENT_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)


class DatabaseAwayError(ConnectionError):
    """No connection to the database could be made."""


OUTAGE_ERRORS: Errors = (
    *sqlstates.errors_of(*sqlstates.OUTAGES),
    OSError,
    TimeoutError,
    # The driver's own, of a connection that ended: the second in the middle of an exchange, and as the pool
    # takes one back. With it, that no host of the address takes writes.
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    # A migration changed what a statement in a transaction reads: the next attempt prepares it anew.
    asyncpg.InvalidCachedStatementError,
)
"""What a statement raises that the database has undone, or while it is away, starting, stopping, full or
read-only: try again later."""

LOST_ERRORS: Errors = (
    *(each for each in OUTAGE_ERRORS if not issubclass(each, OSError)),
    DatabaseAwayError,
)
"""Of these, what nothing but the database can have raised."""

REFUSALS: Errors = (*OUTAGE_ERRORS, asyncpg.InvalidCatalogNameError, asyncpg.InsufficientPrivilegeError)
"""What keeps somebody out for whom all of it is new: away, or not there, or not for this user."""

_AUTHORISATION_ERRORS: Errors = sqlstates.errors_of(*sqlstates.AUTHORISATION)

SERVER = "the database (TOPSYNC_DATABASE_URL)"

CONNECT_SECONDS = 60.0
"""Until a connection is made; the driver's own bound."""

Address = Callable[[], DatabaseSettings]
"""Where the database is now. A process reads its settings again: a file may hold another password since."""


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
        # One connection now: who cannot connect learns it here. With a least number, the driver would keep it
        # up by itself, and log a trace each time that it cannot.
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
    """A connection outside any pool, to be closed by the caller. Without a command time-out, none is bounded.

    Raises:
        DatabaseAwayError, asyncpg.PostgresError: the database cannot be reached.
    """
    url = _latest(settings, address).database_url.get_secret_value()
    try:
        return await asyncpg.connect(
            url,
            target_session_attrs=_wanted(url),
            timeout=timeout_seconds,
            command_timeout=command_timeout_seconds,
            server_settings=server_settings,
        )
    except OSError as error:  # a time-out is among them
        raise DatabaseAwayError(str(error) or type(error).__name__) from error


def may_come(error: Exception) -> bool:
    """Whether a database that was never reached may be there soon: it is starting, and does not refuse us."""
    return isinstance(error, OUTAGE_ERRORS) and not isinstance(error, _AUTHORISATION_ERRORS)


def _latest(settings: DatabaseSettings, address: Address | None) -> DatabaseSettings:
    try:
        return settings if address is None else address()
    except SettingsError as error:
        log.warning("the database's address cannot be read again; keeping the former", error=str(error))
        return settings


def _wanted(url: str) -> SessionAttribute | None:
    """What a server must be: of several, the one that takes writes, unless the address says otherwise."""
    parts = urlsplit(url)
    if "," not in parts.netloc or "target_session_attrs" in parse_qs(parts.query):
        return None
    return SessionAttribute.read_write


async def _keep_unless_read_only(connection: OwnConnection) -> None:
    """What a pool does with a connection that comes back: no round trip of its own.

    Nothing here leaves anything behind in a session but advisory locks, and `unlock` sees to those. A server
    that takes no writes has been replaced, perhaps: the next connection may find its successor.
    """
    if is_read_only(connection):
        connection.terminate()


def is_read_only(connection: Connection) -> bool:
    """Whether the server has said that it takes no writes, as PostgreSQL 14 and later do by themselves."""
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
