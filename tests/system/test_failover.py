"""P1, P2, P4: a standby takes over from a primary that was killed; nothing that was confirmed is lost.

Each test has a primary and a standby of its own, named both in the address of the database, and lets orders
change meanwhile. There are no sweeps, which would bring what a failover had lost.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from signal import SIGKILL

import pytest

from tests.support import replicated_postgres, systems
from tests.support.eventually import eventually
from tests.support.replicated_postgres import Pair, ask
from tests.support.supervisor import Supervisor
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.system import SERVICES, Scale, System

pytestmark = [pytest.mark.at_length, pytest.mark.timeout(600)]

RATE = 20
SCALE = Scale(sellers=2, orders=300, rate=0)
WRITTEN = "select coalesce(sum(revision), 0) from orders"
NEXT_TRANSACTION = "select pg_snapshot_xmax(pg_current_snapshot())::text"
OURS = "select count(*) from pg_stat_activity where application_name like 'topsync %'"
END_OURS = (
    "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'topsync %'"
)


@dataclass(frozen=True)
class Replicated:
    """A running system with a supervisor, on two servers."""

    system: System
    supervisor: Supervisor
    servers: Pair

    async def written(self) -> int:
        """How many versions of orders the database has."""
        versions: int = await systems.value(self.system, WRITTEN)
        return versions

    async def goes_on(self, by: int = 2 * RATE) -> None:
        """Wait until so many more versions are written."""
        before = await self.written()

        async def has_more() -> bool:
            return await self.written() >= before + by

        await eventually(has_more)


@asynccontextmanager
async def replicated(kafka_bootstrap_servers: str, *, synchronous: bool) -> AsyncIterator[Replicated]:
    """A system whose sellers are live and whose orders change."""
    async with (
        ProcessGroup(run_folders.create()) as group,
        replicated_postgres.pair(group, synchronous=synchronous) as servers,
        systems.system_on(
            kafka_bootstrap_servers,
            servers.url,
            f"test-{secrets.token_hex(8)}",
            SCALE,
            settings=systems.NO_SWEEPS,
        ) as system,
    ):
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        async with Supervisor(system, [*SERVICES, "witness"]) as supervisor:
            await system.admin("POST", "/activity", {"rate": RATE})
            running = Replicated(system, supervisor, servers)
            await running.goes_on()
            yield running


async def test_what_a_synchronous_standby_confirmed_is_there_after_the_primary_was_killed(
    kafka_bootstrap_servers: str,
) -> None:
    """Nor does anybody write to the former primary when it comes back, although it would let them."""
    async with replicated(kafka_bootstrap_servers, synchronous=True) as live:
        system, servers = live.system, live.servers
        async with systems.orders_locked(system):
            await eventually(lambda: systems.waiting_upserts(system))
            await servers.primary.kill()
        killed_at = time.monotonic()
        await servers.standby.promote()
        await live.goes_on(by=1)
        print(f"writes go on {time.monotonic() - killed_at:.1f} s after the primary was killed")
        await systems.require_clean_audit(system)
        assert live.supervisor.take_ended() == []

        servers.primary.alone = True
        await servers.primary.restart()
        before = await ask(servers.primary.url, NEXT_TRANSACTION)
        assert await ask(servers.standby.url, END_OURS)
        await system.kill("enrich")
        await system.admin("POST", "/activity", {"rate": RATE})

        async def all_write() -> bool:
            return bool(await ask(servers.standby.url, WRITTEN) >= written + 5 * RATE)

        written = await ask(servers.standby.url, WRITTEN)
        await eventually(all_write)
        assert await ask(servers.primary.url, NEXT_TRANSACTION) == before, "nobody writes there"
        assert live.supervisor.take_ended() == [("enrich", -SIGKILL)]
        await servers.primary.kill()
        await systems.require_clean_audit(system)


async def test_asynchronous(kafka_bootstrap_servers: str) -> None:
    async with replicated(kafka_bootstrap_servers, synchronous=False) as live:
        system, servers = live.system, live.servers
        await servers.standby.stop_following()
        await live.goes_on(5 * RATE)
        await system.admin("POST", "/activity", {"rate": 0})
        had = await live.written()
        await servers.primary.kill()
        await servers.standby.promote()
        print("lost", had - await ask(servers.standby.url, WRITTEN))
        await system.admin("POST", "/activity", {"rate": RATE})
        await live.goes_on()
        await system.admin("POST", "/activity", {"rate": 0})
        print(live.supervisor.take_ended())
        print(await system.try_run("audit", "--settle-seconds", "30"))
        print(await system.try_run("status"))
