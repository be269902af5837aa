"""P2, I2: enrichers share the partitions, come and go all the time, and each order has one writer throughout.

One system runs through the whole file, with a witness from its very start and three enrichers that are set up
as the manifests set them up: each under a name of its own. The database itself keeps the history of who owned
which partition and who wrote what; the broker's files tell which producer published what.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.support import ownership_history, resources, systems
from tests.support.eventually import eventually
from tests.support.ownership_history import Ownership
from tests.support.storm import storm
from topsync.local.processes import ManagedProcess
from topsync.local.system import Scale, System

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 60
SCALE = Scale(sellers=2, orders=1200, rate=0)
INSTANCES = ("enrich-0", "enrich-1", "enrich-2")
PARTITIONS = 6
SETTINGS = {
    "TOPSYNC_PARTITIONS": str(PARTITIONS),
    "TOPSYNC_SESSION_TIMEOUT_SECONDS": "30",  # as deployed
    "TOPSYNC_DATABASE_POOL_SIZE": "4",
}
GRACE_SECONDS = 10.0

AWAY_SECONDS = 12.0
STORM_SECONDS = 12.0
STORM_SEED = 5


@dataclass(frozen=True)
class Fleet:
    """A running system with several enrichers."""

    system: System

    async def start(self, name: str) -> ManagedProcess:
        """Start one of the enrichers."""
        environment = {
            **self.system.environment,
            "TOPSYNC_ENRICHER_INSTANCE_ID": name,
            "TOPSYNC_DATABASE_URL": ownership_history.database_url(self.system, name),
        }
        process = await self.system.group.start(name, self.system.command("enrich"), env=environment)
        self.system.processes[name] = process
        return process

    async def owners(self) -> dict[int, Ownership]:
        """Each partition's present owner."""
        return {one.partition: one for one in await ownership_history.ownerships(self.system)}

    async def all_write(self, than: dict[int, Ownership] | None = None) -> bool:
        """Whether every partition has an owner that has written; newer owners than these, where given."""
        now = await self.owners()
        return len(now) == PARTITIONS and all(
            one.writes and (than is None or one.epoch > than[one.partition].epoch) for one in now.values()
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet() -> AsyncIterator[Fleet]:
    async with systems.private_system(SCALE, settings=SETTINGS) as system:
        await ownership_history.install(system)
        one = Fleet(system)
        for name in ("push", "reconcile", "witness"):
            await system.start(name)
        for name in INSTANCES:
            await one.start(name)
        first, _ = await systems.seller_ids(system)
        await system.run("bootstrap", "--seller", str(first))
        yield one


async def test_a_rolling_restart_gives_every_partition_back_to_the_owner_it_had(fleet: Fleet) -> None:
    """A partition moves at most once: here never, because each enricher comes back under its own name."""
    await fleet.system.admin("POST", "/activity", {"rate": RATE})
    await eventually(fleet.all_write)
    before = await fleet.owners()
    assert {one.owner for one in before.values()} == set(INSTANCES)

    for name in INSTANCES:
        assert await fleet.system.processes[name].stop(GRACE_SECONDS) == 0
        await fleet.start(name)
        mine = {number: one for number, one in before.items() if one.owner == name}

        async def taken_back(mine: dict[int, Ownership] = mine) -> bool:
            now = await fleet.owners()
            return all(now[number].epoch > one.epoch and now[number].writes for number, one in mine.items())

        await eventually(taken_back)

    after = await fleet.owners()
    assert {number: one.owner for number, one in after.items()} == {
        number: one.owner for number, one in before.items()
    }
    assert {number: one.epoch for number, one in after.items()} == {
        number: one.epoch + 1 for number, one in before.items()
    }, "nobody took a partition over but the enricher that came back"
    assert ownership_history.require_no_former_producer(fleet.system)


async def test_nothing_goes_backwards_while_the_group_is_divided_anew_every_second(fleet: Fleet) -> None:
    """P2: partition i of `changes` and of `snapshots` always has one owner, the same, and nobody else writes.

    While a seller's bulk start fills `snapshots` and orders change, enrichers join and leave at random.
    """
    system, before = fleet.system, len(await ownership_history.ownerships(fleet.system))
    await system.admin("POST", "/activity", {"rate": RATE})
    async with storm(system, seed=STORM_SEED) as one, asyncio.TaskGroup() as tasks:
        tasks.create_task(system.run("bootstrap"))
        changes = await one.blow(STORM_SECONDS, every_seconds=1)

    found = await ownership_history.ownerships(system)
    sources = {source for each in found[before:] for _, source in each.writes}
    print(f"{changes} changes of the group, {ownership_history.moves(found)} moves, {len(found)-before} takeovers, {sources}")
    assert ownership_history.moves(found) > changes
    assert sources >= {"push", "bootstrap"}, "both topics were written"
    await systems.require_clean_audit(system)
    assert ownership_history.require_no_former_producer(system)


@pytest.mark.parametrize("server", ["kafka", "postgres"])
async def test_a_server_that_is_away_is_waited_for_without_spinning(fleet: Fleet, server: str) -> None:
    system = fleet.system
    await system.run("bootstrap")
    await system.admin("POST", "/activity", {"rate": RATE})
    await eventually(fleet.all_write)
    embedded = system.servers.kafka if server == "kafka" else system.servers.postgres
    assert embedded
    services = [system.processes[name] for name in (*INSTANCES, "push", "reconcile", "witness")]
    await embedded.kill()
    before = {process.name: resources.of(process) for process in services}
    calls = await systems.gateway_calls(system)
    await asyncio.sleep(AWAY_SECONDS)
    after = {process.name: resources.of(process) for process in services}
    for name in before:
        b, a = before[name], after[name]
        print(server, name, "cpu", a.cpu_seconds - b.cpu_seconds, "lines", a.log_lines - b.log_lines, "rss", b.memory_bytes>>20, a.memory_bytes >> 20)
    print("calls", await systems.gateway_calls(system) - calls)
    import collections, json
    for p in services:
        c = collections.Counter()
        for line in p.log.read_text().splitlines():
            try: c[json.loads(line).get("event","")[:90]] += 1
            except Exception: c[line[:60]] += 1
        print(p.name, c.most_common(12))
    await embedded.restart()
    import time
    t=time.monotonic()
    await systems.require_clean_audit(system)
    print("audit after", time.monotonic()-t)
