"""P1, P2, P4: a standby takes over from a primary that was killed; nothing that was confirmed is lost.

Each test has a primary and a standby of its own, named both in the address of the database, and lets orders
change meanwhile.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
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
CLAIMS_ON_SECONDS = 60
"""Longer than what was lost took."""

WRITTEN = "select coalesce(sum(revision), 0) from orders"
NEXT_TRANSACTION = "select pg_snapshot_xmax(pg_current_snapshot())::text"
END_OURS = (
    "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'topsync %'"
)


@dataclass(frozen=True)
class Replicated:
    """A running system on two servers."""

    system: System
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
async def replicated(
    kafka_bootstrap_servers: str, *, synchronous: bool, settings: Mapping[str, str]
) -> AsyncIterator[Replicated]:
    """A system whose sellers are live and whose orders change."""
    async with (
        ProcessGroup(run_folders.create()) as group,
        replicated_postgres.pair(group, synchronous=synchronous) as servers,
        systems.system_on(
            kafka_bootstrap_servers,
            servers.url,
            f"test-{secrets.token_hex(8)}",
            SCALE,
            settings=settings,
        ) as system,
    ):
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        await system.admin("POST", "/activity", {"rate": RATE})
        running = Replicated(system, servers)
        await running.goes_on()
        yield running


async def test_what_a_synchronous_standby_confirmed_is_there_after_the_primary_was_killed(
    kafka_bootstrap_servers: str,
) -> None:
    """Nor does anybody write to the former primary when it comes back, although it would let them."""
    # Sweeps would bring what a failover had lost.
    settings = systems.NO_SWEEPS
    async with (
        replicated(kafka_bootstrap_servers, synchronous=True, settings=settings) as live,
        Supervisor(live.system, [*SERVICES, "witness"]) as supervisor,
    ):
        system, servers = live.system, live.servers
        async with systems.orders_locked(system):
            await eventually(lambda: systems.waiting_upserts(system))
            await servers.primary.kill()
        killed_at = time.monotonic()
        await servers.standby.promote()
        await live.goes_on(by=1)
        print(f"writes go on {time.monotonic() - killed_at:.1f} s after the primary was killed")
        await systems.require_clean_audit(system)
        assert supervisor.take_ended() == []

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
        assert supervisor.take_ended() == [("enrich", -SIGKILL)]
        await servers.primary.kill()
        await systems.require_clean_audit(system)


async def test_nobody_writes_on_an_asynchronous_standby_before_it_has_what_the_topics_show(
    kafka_bootstrap_servers: str,
) -> None:
    """The database forgets some seconds, offsets and topics do not: revisions would come a second time."""
    settings = {"TOPSYNC_SWEEP_INTERVAL_SECONDS": "2"}
    async with replicated(kafka_bootstrap_servers, synchronous=False, settings=settings) as live:
        system, servers = live.system, live.servers
        await servers.standby.stop_following()
        await live.goes_on(5 * RATE)
        await system.admin("POST", "/activity", {"rate": 0})
        await eventually(lambda: everything_is_read(system))
        had = await live.written()
        await servers.primary.kill()
        await system.kill("enrich")
        await servers.standby.promote()
        lost = had - await ask(servers.standby.url, WRITTEN)
        assert lost > 0, "nothing was lost: nothing is tried"

        status, output = await system.try_run("enrich")
        assert status == 1
        assert "run `topsync restored`" in output
        assert had - await ask(servers.standby.url, WRITTEN) == lost, "it wrote nothing"

        for name in ("witness", *(name for name in reversed(system.services) if name != "enrich")):
            await system.processes[name].stop()
        claimed = await ask(servers.standby.url, "select min(upper(proven)) from coverage")
        await eventually(lambda: catches_up(system))
        assert await ask(servers.standby.url, WRITTEN) == had
        await system.start_services()
        await system.start("witness")
        await system.admin("POST", "/activity", {"rate": RATE})
        await eventually(lambda: all_are_claimed_after(system, claimed), within_seconds=120)
        await systems.require_clean_audit(system)
        assert not await systems.value(system, "select count(*) from witness_findings")


async def catches_up(system: System) -> bool:
    """Whether `topsync restored` has done its work; an enricher that was killed counts for a while."""
    status, _ = await system.try_run("restored")
    return status == 0


async def everything_is_read(system: System) -> bool:
    return not await systems.unread_changes(system)


async def all_are_claimed_after(system: System, moment: datetime) -> bool:
    least = await systems.value(system, "select min(upper(proven)) from coverage")
    return bool(least > moment + timedelta(seconds=CLAIMS_ON_SECONDS))
