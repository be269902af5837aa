"""The book of the call budget that all processes share, in PostgreSQL.

Leases and news of bans come over the same connection: a process that can lease can also hear. When it breaks,
no place is leased until there is a new connection, and the first lease on it names all bans in force.

A ban is stored before its finder goes on, and everybody is notified with the commit. After that moment other
processes may still begin the calls whose place falls into the milliseconds until they have heard. If the
notification is stuck, they may begin calls that were leased before: at most 1 + limit * LEASE_SECONDS over
all processes. A lease names the bans, too, but cannot replace the notification: a process that holds a place
for each of its callers asks for no lease, and would use all places before it knew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from topsync.base import durations, identity, metrics, telemetry
from topsync.base.settings import DatabaseSettings
from topsync.budget.book import BookAwayError
from topsync.budget.leases import Ask, LeaseGrant
from topsync.model.call_limits import APP, CallLimits
from topsync.model.priority import Priority
from topsync.store import call_budget, database
from topsync.store.database import OUTAGE_ERRORS, Address, OwnConnection, Pool

log = telemetry.get_logger(__name__)

TIMEOUT_SECONDS: Final = 2.0
"""For a statement or a connection. A database that takes longer counts as away."""


class SharedBook:
    """See `topsync.budget.book.Book`."""

    def __init__(
        self,
        settings: DatabaseSettings,
        pool: Pool,
        limits: Callable[[], CallLimits],
        address: Address | None = None,
    ) -> None:
        self._settings = settings
        self._address = address
        self._pool = pool
        self._limits = limits
        self._connection: OwnConnection | None = None
        self._heard: Callable[[str, float], None] = _ignore
        self._connecting = asyncio.Lock()
        self._is_away = False
        self._added: frozenset[str] = frozenset()

    @property
    def limits(self) -> CallLimits:
        """See `Book.limits`: as they are now, by the sale-day calendar."""
        return self._limits()

    def on_ban(self, heard: Callable[[str, float], None]) -> None:
        """See `Book.on_ban`."""
        self._heard = heard

    async def lease(self, ask: Ask) -> LeaseGrant:
        """See `Book.lease`. A single ask at a time."""
        try:
            connection, limits = await self.connect(), self.limits
            await self._add_rows(connection, limits)
            grant = await call_budget.lease(connection, limits, ask, timeout_seconds=TIMEOUT_SECONDS)
        except OUTAGE_ERRORS as error:
            self.close()
            if not self._is_away:  # it asks twice a second: log only once
                log.warning("the call budget cannot be reached: no calls until it can", error=repr(error))
            self._is_away = True
            metrics.DATABASE_AWAY.set(1)
            raise BookAwayError from error
        if self._is_away:
            log.warning("the call budget can be reached again")
        self._is_away = False
        metrics.DATABASE_AWAY.set(0)
        for priority in Priority:
            if (quota := limits.quota(priority)) is not None:
                metrics.CALLS_LEFT_TODAY.labels(priority.label).set(max(0, quota - grant.spent))
        return grant

    async def ban(self, scope: str, seconds: float) -> None:
        """See `Book.ban`. Returns when the ban is on the database's disk."""
        log.warning("banned by the platform", scope=scope, wait=durations.until(seconds))
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await call_budget.ban(self._pool, scope, seconds)
        except OUTAGE_ERRORS as error:
            log.warning("the ban is not stored yet; only this process keeps it", error=repr(error))
            raise BookAwayError from error

    def _hear(self, scope: str, seconds: float) -> None:
        self._heard(scope, seconds)

    async def connect(self) -> OwnConnection:
        """The connection for leases and news of bans; made anew when there is no connection."""
        async with self._connecting:
            if self._connection is None or self._connection.is_closed():
                self._connection = await database.connect_once(
                    self._settings,
                    self._address,
                    timeout_seconds=TIMEOUT_SECONDS,
                    command_timeout_seconds=TIMEOUT_SECONDS,
                    server_settings={
                        "application_name": identity.connection_name(),
                        "timezone": "UTC",
                        # A lease is not worth a wait for the disk: a crash of the server takes back leases of
                        # a fraction of a second, which is over before the server works again.
                        "synchronous_commit": "off",
                    },
                )
                await call_budget.listen(self._connection, self._hear)
                self._added = frozenset()
                await self._add_rows(self._connection, self.limits)
            return self._connection

    async def _add_rows(self, connection: OwnConnection, limits: CallLimits) -> None:
        """Make the rows of APIs that have a limit by now, each once a connection."""
        wanted = frozenset({APP, *limits.api_calls_per_second})
        if not wanted <= self._added:
            await call_budget.add(connection, limits)
            self._added |= wanted

    def close(self) -> None:
        """Drop the connection at once, whatever its state."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


@asynccontextmanager
async def open_book(
    settings: DatabaseSettings,
    pool: Pool,
    limits: Callable[[], CallLimits],
    address: Address | None = None,
) -> AsyncIterator[SharedBook]:
    """The shared book, connected. It asks `address` before each connection, as a pool does.

    Raises:
        OSError, asyncpg.PostgresError: the database cannot be reached.
    """
    book = SharedBook(settings, pool, limits, address)
    try:
        await book.connect()
        yield book
    finally:
        book.close()


def _ignore(scope: str, seconds: float) -> None:
    """Stands in until somebody listens."""
