"""P1, P2, P4: the last release and the present code side by side, forward and back, while orders change.

The installation is the last release's, from git. The schema goes forward under its processes. Then each
service of both releases runs beside the other, shares the work, and reads what the other has written. Then
the present code runs alone. At last everything goes back to the last release, on the newer schema.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import orjson
import pytest

from schemas import platform_time
from tests.support import former_release, systems
from tests.support.commands import ForkingGroup
from tests.support.eventually import eventually
from tests.support.former_release import Release, RollingSystem
from tests.support.servers import fresh_database
from topsync.local import run_folders
from topsync.local.servers import DATABASE_VARIABLE, KAFKA_VARIABLE
from topsync.local.system import Scale, local_system
from topsync.store import schema

pytestmark = [pytest.mark.at_length, pytest.mark.timeout(900)]

RATE = 15
PARTITIONS = 4
SCALE = Scale(sellers=3, orders=450, rate=0)
SETTINGS = {"TOPSYNC_PARTITIONS": str(PARTITIONS), "TOPSYNC_RECONCILE_CALM_SECONDS": "8"}
SERVICES: Final = ("push", "enrich", "reconcile")
FORMER, PRESENT = "former", "present"
CUT_SECONDS = 2

OWNERS = "select partition, owner, epoch from partition_owners"
CONNECTED = "select count(*) from push_connections where lost_at is null"
HOLDERS = """
select right(name, strpos(reverse(name), '/') - 1)::integer as pid, count(key) as sellers
from reconcilers left join work_leases on holder = id and kind = 'seller'
group by id, name
"""


async def test_releases_run_side_by_side_forward_and_back_and_nothing_is_lost(
    kafka_bootstrap_servers: str, database_server_url: str, tmp_path: Path
) -> None:
    release = former_release.unpack(tmp_path)
    assert release.where_it_is_imported_from() == tmp_path
    async with installed(release, kafka_bootstrap_servers, database_server_url) as system:
        first, second, third = map(str, await systems.seller_ids(system))
        for service in SERVICES:
            await start(system, release, service)
        await system.start_former(release, "witness", "witness")
        await system.run("bootstrap", "--seller", first, "--seller", second)
        await system.admin("POST", "/activity", {"rate": RATE})
        await goes_on(system)

        # Forward: first the schema, under the former processes.
        system.former = None
        assert await missing_migrations(system), "nothing is tried between two releases with the same schema"
        await system.run("migrate")
        await system.run("topics", "apply")
        await goes_on(system)
        system.require_running()

        # Both of each. A bulk start of the present code fills `snapshots` for both.
        for service in SERVICES:
            await start(system, None, service)
        await are_shared(system)
        async with systems.gaps_opened_and_closed(system):
            await system.run("bootstrap", "--seller", third)
            await system.admin("POST", "/faults/cut", {"seconds": CUT_SECONDS, "lose_messages": True})
        await replays_end(system, release, first)
        await goes_on(system)
        await stop(system, FORMER)
        await goes_on(system)
        await require_nothing_lost(system)

        # Back: the schema stays.
        for service in SERVICES:
            await start(system, release, service)
        await are_shared(system)
        await goes_on(system)
        await stop(system, PRESENT)
        system.former = release
        async with systems.gaps_opened_and_closed(system):
            await system.admin("POST", "/faults/cut", {"seconds": CUT_SECONDS, "lose_messages": True})
        await goes_on(system)
        await require_nothing_lost(system)
        system.former = None
        await systems.require_clean_audit(system)


@asynccontextmanager
async def installed(
    release: Release, kafka_bootstrap_servers: str, database_server_url: str
) -> AsyncIterator[RollingSystem]:
    """An installation that the former release has prepared."""

    prefix = f"test-{secrets.token_hex(8)}"
    async with (
        fresh_database(database_server_url) as database_url,
        ForkingGroup(run_folders.create()) as group,
        local_system(
            group,
            SCALE,
            settings={**systems.apart(prefix), **SETTINGS},
            servers_environment={
                **os.environ,
                KAFKA_VARIABLE: kafka_bootstrap_servers,
                DATABASE_VARIABLE: database_url,
            },
            kind=partial(RollingSystem, former=release),
        ) as system,
    ):
        assert isinstance(system, RollingSystem)
        yield system


async def start(system: RollingSystem, release: Release | None, service: str) -> None:
    """Start a service of a release, or of the present code, under a name that says which."""
    name = f"{service}-{PRESENT if release is None else FORMER}"
    extra = {"TOPSYNC_ENRICHER_INSTANCE_ID": name} if service == "enrich" else {}
    if release is None:
        await system.start(name, extra, service=service)
    else:
        await system.start_former(release, name, service, extra)


async def stop(system: RollingSystem, which: str) -> None:
    """End all services of a release in good order, as a rollout does."""
    for service in SERVICES:
        process = system.processes.pop(f"{service}-{which}")
        assert await process.stop() == 0, process.log_tail()
    system.require_running()


async def are_shared(system: RollingSystem) -> None:
    """Wait until each service of both releases has a part of the work."""

    async def everybody_has_a_part() -> bool:
        enrichers = Counter(row["owner"] for row in await systems.rows(system, OWNERS))
        holders = {row["pid"]: row["sellers"] for row in await systems.rows(system, HOLDERS)}
        both = [system.processes[f"reconcile-{which}"].pid for which in (FORMER, PRESENT)]
        connected = await systems.value(system, CONNECTED)
        return len(enrichers) == 2 and all(holders.get(pid) for pid in both) and connected == 2

    await eventually(everybody_has_a_part)
    await goes_on(system)


async def goes_on(system: RollingSystem) -> None:
    """Wait until orders of every partition are published anew."""
    before = await systems.published(system)

    async def all_have_more() -> bool:
        now = await systems.published(system)
        return len(now) == PARTITIONS and all(now[each] > before[each] for each in now)

    await eventually(all_have_more)


async def replays_end(system: RollingSystem, release: Release, seller: str) -> None:
    """Ask for a replay by a command of either release; whichever reconciler takes it, it ends well."""
    now = await systems.platform_now(system)
    span = (platform_time.format(now - timedelta(minutes=1)), platform_time.format(now))
    command = ("replay", "--seller", seller, "--from", span[0], "--to", span[1], "--json")
    for status, output in (await system.try_run_former(release, *command), await system.try_run(*command)):
        assert status == 0, output
        assert orjson.loads(output.splitlines()[-1])["state"] == "done", output


async def missing_migrations(system: RollingSystem) -> int:
    """How many migrations the former release has not applied."""
    return len(schema.migrations()) - int(await systems.value(system, "select count(*) from migrations"))


async def require_nothing_lost(system: RollingSystem) -> None:
    """Audit, and look for records that a release could not read; afterwards orders change again."""
    await systems.require_clean_audit(system)
    letters = systems.registry(system).dead_letters
    assert await systems.records(systems.kafka_settings(system), letters) == []
    system.require_running()
    await system.admin("POST", "/activity", {"rate": RATE})
