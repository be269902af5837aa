"""Two real PostgreSQL servers: a primary, and a standby that follows it by streaming replication.

The standby is made as an operator makes it, by `pg_basebackup`, and promoted by `pg_promote`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from tests.support.eventually import eventually
from topsync.local.ports import LOOPBACK
from topsync.local.postgres import SUPERUSER, EmbeddedPostgres
from topsync.local.processes import ProcessGroup

COPY_TIMEOUT_SECONDS: Final = 60.0
STANDBY: Final = "standby"
"""The name by which the primary knows its standby."""


class Primary(EmbeddedPostgres):
    """A server that another may follow."""

    alone = False
    """Whether it waits for nobody from its next start on, as if it had never been followed."""

    def _settings(self) -> dict[str, str | int]:
        # Without autovacuum only clients take transaction ids, so that these show whether anybody writes.
        alone = {"synchronous_standby_names": "", "autovacuum": "off"} if self.alone else {}
        return {**super()._settings(), **alone}


class Standby(EmbeddedPostgres):
    """A server that follows `primary`, which must run when it starts for the first time."""

    def __init__(self, group: ProcessGroup, primary: Primary) -> None:
        super().__init__(group, group.folder / STANDBY)
        self._primary = urlsplit(primary.url)
        self._password = self._primary.password or ""

    async def _make_data(self) -> None:
        passwords = self._folder / "passwords"
        self._write_private(passwords, f"*:*:*:*:{self._password}\n")
        followed = (
            f"host={LOOPBACK} port={self._primary.port} user={SUPERUSER} passfile={passwords} "
            f"application_name={STANDBY}"
        )
        await self._group.run(
            "pg_basebackup",
            [
                self._programs / "pg_basebackup", "--dbname", followed, "--pgdata", self._data,
                "--checkpoint=fast", "--no-sync", "--write-recovery-conf",
            ],
            timeout_seconds=COPY_TIMEOUT_SECONDS,
            cwd=self._folder,
            user=self._account,
        )  # fmt: skip

    async def stop_following(self) -> None:
        """Take nothing more from the primary; what it commits from now on, the standby does not have."""
        await ask(self.url, "alter system set primary_conninfo = ''")
        await ask(self.url, "select pg_reload_conf()")
        await eventually(self._follows_nobody)

    async def promote(self) -> None:
        """Make it take writes; returns when it does."""
        assert await ask(self.url, "select pg_promote()")

    async def _follows_nobody(self) -> bool:
        return not await ask(self.url, "select count(*) from pg_stat_wal_receiver")


class Pair:
    """The two servers, and the address that names both."""

    def __init__(self, primary: Primary, standby: Standby) -> None:
        self.primary = primary
        self.standby = standby

    @property
    def url(self) -> str:
        """An address with both servers; the primary is the first."""
        first, second = urlsplit(self.primary.url), urlsplit(self.standby.url)
        return first._replace(netloc=f"{first.netloc},{LOOPBACK}:{second.port}").geturl()


@asynccontextmanager
async def pair(group: ProcessGroup, *, synchronous: bool) -> AsyncIterator[Pair]:
    """A primary and its standby, which has everything that the primary has."""
    primary = Primary(group, group.folder / "primary")
    await primary.start()
    standby = Standby(group, primary)
    await standby.start()
    if synchronous:
        # After the copy, which would have it, too.
        await ask(primary.url, f"alter system set synchronous_standby_names = '{STANDBY}'")
        await ask(primary.url, "select pg_reload_conf()")
    state = "sync" if synchronous else "async"

    async def follows() -> bool:
        return bool(await ask(primary.url, "select sync_state from pg_stat_replication") == state)

    await eventually(follows)
    try:
        yield Pair(primary, standby)
    finally:
        for server in (standby, primary):
            await server.process.stop()


async def ask(url: str, statement: str) -> Any:
    """The answer to a statement, by a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()
