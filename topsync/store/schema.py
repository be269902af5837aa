"""The schema: `topsync migrate` brings it up to date, everything else requires it.

Migrations are applied during live traffic. So each waits only briefly for a table's lock, since all later
statements would wait behind it; but each may take as long as its own work needs.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from typing import Final, NamedTuple

import asyncpg

from topsync.base import retry, telemetry
from topsync.base.errors import OperatorError
from topsync.base.settings import DatabaseSettings
from topsync.store import database
from topsync.store.database import OwnConnection, Pool, sql

log = telemetry.get_logger(__name__)

_MIGRATION_LOCK: Final = 0x746F7073
"""Advisory lock under which only a single process migrates (the letters `tops`)."""

OTHERS_POLL_SECONDS: Final = 0.5
"""The wait between two attempts to get the lock. Waiting within a statement would keep a snapshot open."""

LOCK_TIMEOUT_SECONDS: Final = 2.0
"""How long a migration waits for a lock of live traffic; others may wait as long behind it."""

INDEX_WAIT_SECONDS: Final = 240.0
"""How long a migration without a transaction waits for older transactions to end; nobody waits behind it."""

LOCK_WAITS: Final = retry.Policy(
    max_attempts=None, max_elapsed_seconds=240.0, first_wait_seconds=1.0, max_wait_seconds=10.0
)
"""Live traffic goes on between the attempts. They end before the wait for the migration's job does
(deploy/README.md)."""

_LOCKED_OUT: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

_WITHOUT_TRANSACTION: Final = "-- without a transaction\n"
"""The first line of a migration that builds indexes beside live traffic (`create index concurrently`)."""

_END_OF_STATEMENT: Final = re.compile(r";\s*(?:\n|$)")

_MIGRATION_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


class SchemaError(OperatorError):
    """The database's schema differs from what this code needs, and perhaps cannot be migrated now."""


class Migration(NamedTuple):
    """A step of the schema, a file in `store/migrations`."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """A digest of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def steps(self) -> list[str] | None:
        """Its statements, where each is run by itself; None where all of them are one transaction."""
        if not self.text.startswith(_WITHOUT_TRANSACTION):
            return None
        return [step.strip() for step in _END_OF_STATEMENT.split(self.text) if step.strip()]


class Applied(NamedTuple):
    """A migration as the database has recorded it."""

    name: str
    checksum: str | None
    """None when a former version applied it: that recorded no checksum."""


def migrations() -> list[Migration]:
    """All migrations, in order."""
    found = []
    for entry in resources.files("topsync.store").joinpath("migrations").iterdir():
        match = _MIGRATION_NAME.match(entry.name)
        if match:
            found.append(Migration(int(match[1]), entry.name, entry.read_text("utf-8")))
    return sorted(found)


def newest() -> int:
    """The number of the last migration that this code knows."""
    return migrations()[-1].number


async def migrate(settings: DatabaseSettings, *, lock_waits: retry.Policy = LOCK_WAITS) -> list[str]:
    """Bring the schema up to date. Returns the names applied now.

    Several processes may do so at the same time: the first works, the others wait for it. After a failure,
    the migrations that were applied stay; run it again. Each is a transaction, except those whose first line
    says otherwise: their statements may be run again.

    Raises:
        SchemaError: an applied migration has another text here, or live traffic kept a lock throughout.
        OSError, asyncpg.PostgresError: the database cannot be reached, or a migration is wrong.
    """
    connection = await database.connect_once(
        settings,
        command_timeout_seconds=None,
        server_settings={
            "application_name": "topsync migrate",
            "timezone": "UTC",
            "statement_timeout": "0",
            "lock_timeout": f"{LOCK_TIMEOUT_SECONDS * 1000:.0f}",
        },
    )
    try:
        async with _alone(connection):
            return await _apply_missing(connection, partial(_unlocked, lock_waits=lock_waits))
    finally:
        connection.terminate()


@asynccontextmanager
async def _alone(connection: OwnConnection) -> AsyncIterator[None]:
    """Wait until no other process migrates: its lock goes with its connection at the latest."""
    waited = False
    while True:
        if await database.try_lock(connection, _MIGRATION_LOCK):
            break
        if not waited:
            log.warning("another process migrates; waiting for it")
        waited = True
        await asyncio.sleep(OTHERS_POLL_SECONDS)
    yield
    await database.unlock(connection, _MIGRATION_LOCK)


Patiently = Callable[[str, Callable[[], Awaitable[object]]], Awaitable[None]]
"""Repeats a step, whose name is the first argument, until it gets the locks that it needs."""


async def _apply_missing(connection: OwnConnection, patiently: Patiently) -> list[str]:
    if not await connection.fetchval(sql("migrations.table_is_current")):
        await patiently("the table of migrations", lambda: connection.execute(sql("migrations.create")))
    done = {
        row["number"]: Applied(row["name"], row["checksum"])
        for row in await connection.fetch(sql("migrations.applied"))
    }
    known = migrations()
    _require_unchanged(known, done)
    new = []
    for migration in known:
        if applied := done.get(migration.number):
            if applied.checksum is None:
                await connection.execute(
                    sql("migrations.note_checksum"), migration.number, migration.checksum
                )
            continue
        await patiently(migration.name, partial(_apply, connection, migration))
        new.append(migration.name)
        log.info("migrated", migration=migration.name)
    return new


def _require_unchanged(known: list[Migration], done: dict[int, Applied]) -> None:
    for migration in known:
        applied = done.get(migration.number)
        if applied is None or applied == (migration.name, migration.checksum):
            continue
        if applied.checksum is None and applied.name == migration.name:
            continue
        raise SchemaError(
            f"this release's {migration.name} is not the {applied.name} that was applied to the database. "
            "Released migrations never change: install a release that has it as it was"
        )


async def _apply(connection: OwnConnection, migration: Migration) -> None:
    if migration.steps is not None:
        await _run_steps(connection, migration.steps)
        await _record(connection, migration)
        return
    async with connection.transaction():
        await connection.execute(migration.text)
        await _record(connection, migration)


async def _run_steps(connection: OwnConnection, steps: list[str]) -> None:
    """Run statements one by one. After a failure those that are done stay, and all are run again.

    They wait longer than others: what they wait for are the transactions before them, and live traffic does
    not wait for their locks.
    """
    await connection.execute(sql("migrations.wait_for_locks"), f"{INDEX_WAIT_SECONDS * 1000:.0f}")
    try:
        for step in steps:
            await connection.execute(step)
    finally:
        await connection.execute(sql("migrations.wait_for_locks"), f"{LOCK_TIMEOUT_SECONDS * 1000:.0f}")


async def _record(connection: OwnConnection, migration: Migration) -> None:
    await connection.execute(sql("migrations.record"), migration.number, migration.name, migration.checksum)


async def _unlocked(name: str, step: Callable[[], Awaitable[object]], *, lock_waits: retry.Policy) -> None:
    """Repeat a step, which is undone when it does not get its locks in time, until it gets them.

    Raises:
        SchemaError: it did not get them in any attempt.
    """

    def waiting(attempt: retry.Attempt) -> None:
        log.warning(
            "live traffic holds a lock that a migration needs; trying again",
            migration=name,
            attempt=attempt.number,
            wait_seconds=round(attempt.wait_seconds, 1),
        )

    try:
        await retry.run(
            step,
            decide=lambda error, _: retry.Retry() if isinstance(error, _LOCKED_OUT) else retry.GIVE_UP,
            policy=lock_waits,
            on_retry=waiting,
        )
    except _LOCKED_OUT:
        raise SchemaError(
            f"{name} needs a lock that others hold: end the longest transactions that pg_stat_activity shows "
            "(xact_start), then run `topsync migrate` again; what was applied before it stays"
        ) from None


async def require_schema(pool: Pool) -> None:
    """Check that every migration has been applied.

    Raises:
        SchemaError: the text names what is missing and what to run.
    """
    exists = await pool.fetchval("select to_regclass('migrations') is not null")
    done = {row["number"] for row in await pool.fetch(sql("migrations.numbers"))} if exists else set()
    missing = [migration.name for migration in migrations() if migration.number not in done]
    if missing:
        raise SchemaError(f"the database lacks {', '.join(missing)}: run `topsync migrate` first")
