"""The whole system on one machine, as separate processes like in production: for the demo and for tests.

The servers, a simulated platform and every service are children of one `ProcessGroup`. The parts are
reached as an operator would reach them: by commands, by environment, by the simulator's admin port.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from cryptography.fernet import Fernet

from topsync.base import certificate_key
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ManagedProcess, ProcessFailedError, ProcessGroup
from topsync.local.servers import Servers, local_servers
from topsync.model.scheme import Scheme
from topsync.verify import admin_port

APP_KEY = "99000001"
APP_SECRET = "simulator-secret-0001"  # noqa: S105 -- of a platform that does not exist
READY_TIMEOUT_SECONDS = 60.0
COMMAND_TIMEOUT_SECONDS = 120.0
ADMIN_TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.05

_TOPSYNC = (sys.executable, "-m", "topsync")

SERVICES = ("push", "enrich", "reconcile")
"""The services that run all the time, in the order of starting; push only where the scheme has messages."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large and how quick the simulated platform is."""

    sellers: int = 3
    orders: int = 3000
    rate: float = 20
    seed: int = 1
    visibility_delay_seconds: int = 1


def quick_settings(folder: Path) -> dict[str, str]:
    """Settings to show in a minute what otherwise takes a day: the same rules with shorter waits.

    The simulated platform shows changes at most a second late; with the usual allowance of ten minutes,
    nothing would be proven within the minute.
    """
    return {
        "TOPSYNC_PARTITIONS": "4",
        "TOPSYNC_REPLICATION_FACTOR": "1",
        "TOPSYNC_CALLS_PER_SECOND": "2000",
        "TOPSYNC_DOWNLOAD_HOSTS": "127.0.0.1",
        "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "3",
        "TOPSYNC_OVERLAP_SECONDS": "10",
        "TOPSYNC_DETAIL_LAG_ALLOWANCE_SECONDS": "0",
        "TOPSYNC_SWEEP_INTERVAL_SECONDS": "5",
        "TOPSYNC_POLL_INTERVAL_SECONDS": "3",
        "TOPSYNC_GAP_RETRY_SECONDS": "5",
        "TOPSYNC_RECONCILE_POLL_SECONDS": "0.5",
        # What a system does must not depend on the hour at which it is tried.
        "TOPSYNC_COMPARISON_HOURS": "",
        "TOPSYNC_CIRCUIT_WINDOW_SECONDS": "10",
        "TOPSYNC_CIRCUIT_WAIT_SECONDS": "1",
        "TOPSYNC_CIRCUIT_LONGEST_WAIT_SECONDS": "4",
        "TOPSYNC_CIRCUIT_PULL_INTERVAL_SECONDS": "10",
        "TOPSYNC_PUSH_LOST_AFTER_SECONDS": "5",
        "TOPSYNC_RECONNECT_INITIAL_SECONDS": "1",
        "TOPSYNC_PULL_INTERVAL_SECONDS": "5",
        "TOPSYNC_EXPORT_POLL_SECONDS": "0.5",
        "TOPSYNC_SESSION_TIMEOUT_SECONDS": "6",
        "TOPSYNC_WORK_DIR": str(folder / "exports"),
    }


@dataclass(slots=True)
class System:
    """A running system. Every process in it may be killed and started again."""

    group: ProcessGroup
    servers: Servers
    environment: dict[str, str]
    processes: dict[str, ManagedProcess]
    metrics: dict[str, str] = field(default_factory=dict)
    """The address of each service's metrics, if it serves them."""

    @property
    def admin_url(self) -> str:
        """The simulator's administrative port."""
        return self.environment["TOPSYNC_SIMULATOR_ADMIN_URL"]

    @property
    def scheme(self) -> Scheme:
        """The installation's scheme."""
        return Scheme(self.environment.get("TOPSYNC_SCHEME", Scheme.AUTO))

    @property
    def services(self) -> list[str]:
        """The services that this installation needs, in the order of starting."""
        return [name for name in SERVICES if name != "push" or self.scheme.pushes]

    async def start(
        self, name: str, settings: Mapping[str, str] | None = None, *, service: str | None = None
    ) -> ManagedProcess:
        """Start a service, which is called as it is named unless `service` says otherwise.

        A former process of that name must have ended.
        """
        environment = {**self.environment, **(settings or {})}
        process = await self.group.start(name, self.command(service or name), env=environment)
        self.processes[name] = process
        return process

    async def start_services(self, *, with_metrics: bool = False) -> None:
        """Start the services, each with metrics on a port of its own, or without."""
        for name in self.services:
            if not with_metrics:
                await self.start(name)
                continue
            port = free_port()
            await self.start(name, {"TOPSYNC_TELEMETRY_PORT": str(port), "TOPSYNC_TELEMETRY_HOST": LOOPBACK})
            self.metrics[name] = f"http://{LOOPBACK}:{port}/metrics"

    async def kill(self, name: str) -> None:
        """SIGKILL a service, and wait until it is gone."""
        self.processes[name].kill()
        await self.processes[name].wait()

    async def stop(self) -> None:
        """Stop all its processes in good order: at the same time, and only then the platform they ask."""
        platform = self.processes.get("simulate")
        async with asyncio.TaskGroup() as tasks:
            for process in self.processes.values():
                if process is not platform:
                    tasks.create_task(process.stop())
        if platform is not None:
            await platform.stop()

    def require_running(self) -> None:
        """Check that no process has ended by itself.

        Raises:
            ProcessFailedError: a process has ended; the text holds the end of its log.
        """
        for name, process in self.processes.items():
            if process.returncode is not None:
                raise process.failure(f"({name}) has ended with status {process.returncode}")

    def command(self, *arguments: str) -> list[str]:
        """The command line of a topsync command."""
        return [*_TOPSYNC, *arguments]

    async def run(
        self, *arguments: str, given: str = "", timeout_seconds: float = COMMAND_TIMEOUT_SECONDS
    ) -> str:
        """Run a command to its end and return what it printed.

        Raises:
            ProcessFailedError: it ended with another status than 0, or not in time.
        """
        status, output = await self.try_run(*arguments, given=given, timeout_seconds=timeout_seconds)
        if status != 0:
            raise ProcessFailedError(f"topsync {' '.join(arguments)} ended with status {status}:\n{output}")
        return output

    async def try_run(
        self, *arguments: str, given: str = "", timeout_seconds: float = COMMAND_TIMEOUT_SECONDS
    ) -> tuple[int, str]:
        """Run a command to its end; returns its status and what it printed."""
        return await self._run_to_end(self.command(*arguments), given, timeout_seconds)

    async def _run_to_end(
        self, command: Sequence[str | Path], given: str, timeout_seconds: float, *, cwd: Path | None = None
    ) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self.environment},
            cwd=cwd,
        )
        try:
            async with asyncio.timeout(timeout_seconds):
                output, _ = await process.communicate(given.encode())
        except TimeoutError:
            raise ProcessFailedError(f"{' '.join(map(str, command))} did not end in time") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, output.decode()

    async def admin(self, method: str, path: str, body: Mapping[str, object] | None = None) -> object:
        """Make a request to the simulator's administrative port; returns its JSON answer."""
        async with admin_port.client(self.admin_url, timeout_seconds=ADMIN_TIMEOUT_SECONDS) as client:
            response = await client.request(method, path, json=body)
            response.raise_for_status()
            return orjson.loads(response.content)

    async def prepare(self) -> None:
        """Prepare schema, topics and sellers: what a new installation does once."""
        async with asyncio.TaskGroup() as tasks:
            migrating = tasks.create_task(self.run("migrate"))
            tasks.create_task(self.run("topics", "apply"))
            await migrating
            sellers = await self.admin("GET", "/sellers")
            assert isinstance(sellers, list)
            await self.import_sellers(sellers)

    async def import_sellers(self, sellers: Sequence[Mapping[str, object]]) -> None:
        """Add sellers with their sessions, as the administrative port shows them."""
        wanted = ("user_id", "nick", "session", "ends")
        lines = [orjson.dumps({name: seller[name] for name in wanted}).decode() for seller in sellers]
        await self.run("sellers", "import", given="\n".join(lines))


async def _start_simulator(
    group: ProcessGroup, scale: Scale, extra: Sequence[str], ready: Path
) -> ManagedProcess:
    arguments: dict[str, object] = {
        "--seed": scale.seed,
        "--sellers": scale.sellers,
        "--orders": scale.orders,
        "--rate": scale.rate,
        "--visibility-delay": scale.visibility_delay_seconds,
        "--export-schedule": 1,
        "--export-run": 1,
        "--ready-file": ready,
    }
    flat = [str(part) for pair in arguments.items() for part in pair]
    argv = [*_TOPSYNC, "simulate", "--no-office-hours", *flat, *extra]
    return await group.start("simulate", argv, env={"TOPSYNC_APP_SECRET": APP_SECRET})


async def _addresses(simulator: ManagedProcess, ready: Path) -> dict[str, str]:
    """The simulator's addresses, once it listens."""
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            while (addresses := _read_addresses(ready)) is None:
                if simulator.returncode is not None:
                    raise simulator.failure("ended while starting")
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise simulator.failure(f"did not listen within {READY_TIMEOUT_SECONDS:.0f} s") from None
    return addresses


def _read_addresses(ready: Path) -> dict[str, str] | None:
    try:
        addresses: dict[str, str] = orjson.loads(ready.read_bytes())
    except FileNotFoundError:
        return None
    return addresses


@asynccontextmanager
async def local_system(
    group: ProcessGroup,
    scale: Scale,
    *,
    settings: Mapping[str, str] | None = None,
    simulator_arguments: Sequence[str] = (),
    servers_environment: Mapping[str, str] = os.environ,
    kind: Callable[[ProcessGroup, Servers, dict[str, str], dict[str, ManagedProcess]], System] = System,
) -> AsyncIterator[System]:
    """Start servers and simulator, and prepare the installation; the caller starts the services.

    Args:
        group: an entered group.
        scale: of the simulated platform.
        settings: variables besides `quick_settings`, which they override.
        simulator_arguments: for `topsync simulate`, besides what `scale` says.
        servers_environment: may name existing servers (see `local_servers`).
        kind: of the system, for one that runs its commands in another way.

    Raises:
        ProcessFailedError: a process did not start; the text holds the end of its log.
    """
    ready = group.folder / "simulator.json"
    simulator = await _start_simulator(group, scale, simulator_arguments, ready)
    async with local_servers(group, environment=servers_environment) as servers:
        addresses = await _addresses(simulator, ready)
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
            "TOPSYNC_DATABASE_URL": servers.database_url,
            "TOPSYNC_APP_KEY": APP_KEY,
            "TOPSYNC_APP_SECRET": APP_SECRET,
            "TOPSYNC_TOKEN_KEYS": Fernet.generate_key().decode(),
            "TOPSYNC_CERTIFICATE_KEY": certificate_key.new(),
            "TOPSYNC_GATEWAY_URL": addresses["gateway_url"],
            "TOPSYNC_CHANNEL_URL": addresses["channel_url"],
            "TOPSYNC_OAUTH_URL": addresses["oauth_url"],
            "TOPSYNC_OAUTH_REDIRECT_URL": f"{addresses['oauth_url']}/nobody-is-here",
            "TOPSYNC_SIMULATOR_ADMIN_URL": addresses["admin_url"],
            # A single port for all, inherited from our starter, would be taken by the first.
            "TOPSYNC_TELEMETRY_PORT": "0",
            **quick_settings(group.folder),
            **(settings or {}),
        }
        system = kind(group, servers, environment, {"simulate": simulator})
        await system.prepare()
        try:
            yield system
        finally:
            # First, because each service would look for the servers for a while if they were away.
            await system.stop()
