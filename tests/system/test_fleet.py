"""P2, P4: enrichers share the partitions, come and go and die anywhere; each order has a single writer.

The whole file uses one system, with a witness from its start and three enrichers that are set up as by the
manifests: each under its own name. The database itself keeps the history of who owned which partition and who
wrote what; the broker's files show which producer published what.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from reconciler.replays import ENDED_PROCESSES
from schemas import platform_time
from tests.support import executioner, ownership_history, systems
from tests.support.eventually import eventually
from tests.support.ownership_history import Ownership
from tests.support.storm import storm
from tests.system import (
    test_comparison,
    test_dying_bulk_starts,
    test_dying_commands,
    test_dying_replays,
    test_dying_services,
    test_republishing,
)
from topsync.base.failpoints import POINTS, Point
from topsync.local.processes import ManagedProcess
from topsync.local.system import Scale, System

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 15
"""Enough changes to write to every partition within a second."""
KILLING_RATE = 6
"""Enough changes to reach every step; more would only be more work."""
STORM_RATE = 40
"""Here each order that is under way during a rebalance is a chance for an error."""

SCALE = Scale(sellers=3, orders=900, rate=0)
INSTANCES = ("enrich-0", "enrich-1", "enrich-2")
PARTITIONS = 6
SETTINGS = {
    "TOPSYNC_PARTITIONS": str(PARTITIONS),
    # Must be longer than a restart, which takes a while on a busy machine.
    "TOPSYNC_SESSION_TIMEOUT_SECONDS": "60",
    "TOPSYNC_DATABASE_POOL_SIZE": "4",
    # A pull soon after each start of the reconciler.
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": "1",
}
GRACE_SECONDS = 10.0

STORM_SEED = 5


def points_of(*steps: str) -> list[Point]:
    """The fail points of these kinds of steps, in order."""
    return [point for point in POINTS if point.partition(".")[0] in steps]


VICTIMS = {
    "enrich-0": points_of("takeover"),
    # Two of these services share their points: they die at the same time.
    "enrich-1": points_of("enricher")[::2],
    "enrich-2": points_of("enricher")[1::2],
    "push": points_of("push"),
    "reconcile": [*points_of("pull", "sharing"), "replay.notified"],
}
IN_SECONDS = {
    "takeover.former_fenced",
    "enricher.stored",
    "enricher.records_sent",
    "enricher.published",
    "push.acknowledged",
    "pull.hinted",
    "pull.stored",
    "sharing.shared",
}
"""The points for which the suite has time; `make soak` runs all of them.

Of two points without a write between them, the later point is here: it leaves the same state, and more.
`test_kills.py` kills the broker while messages of push are sent and not acknowledged.
"""


@dataclass(frozen=True)
class Fleet:
    """A running system with several enrichers."""

    system: System

    async def start(self, name: str, extra: Mapping[str, str] | None = None) -> ManagedProcess:
        """Start an enricher, or another service, with its own variables."""
        settings = {
            "TOPSYNC_DATABASE_URL": ownership_history.database_url(self.system, name),
            **({"TOPSYNC_ENRICHER_INSTANCE_ID": name} if name in INSTANCES else {}),
            **(extra or {}),
        }
        return await self.system.start(name, settings, service="enrich" if name in INSTANCES else None)

    async def owners(self) -> dict[int, Ownership]:
        """Each partition's current owner."""
        return {
            ownership.partition: ownership for ownership in await ownership_history.ownerships(self.system)
        }

    async def all_write(self) -> bool:
        """Whether every partition has an owner that has written."""
        now = await self.owners()
        return len(now) == PARTITIONS and all(ownership.writes for ownership in now.values())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet() -> AsyncIterator[Fleet]:
    async with systems.private_system(SCALE, settings=SETTINGS) as system:
        await ownership_history.install(system)
        running = Fleet(system)
        for name in (*INSTANCES, "push", "reconcile", "witness"):
            await running.start(name)
        first, *_ = await systems.seller_ids(system)
        await system.run("bootstrap", "--seller", str(first))
        yield running


async def test_a_rolling_restart_gives_every_partition_back_to_the_owner_it_had(fleet: Fleet) -> None:
    """A partition moves at most once: here never, because each enricher comes back under its own name."""
    await fleet.system.admin("POST", "/activity", {"rate": RATE})
    await eventually(fleet.all_write)
    before = await fleet.owners()
    assert {ownership.owner for ownership in before.values()} == set(INSTANCES)

    for name in INSTANCES:
        assert await fleet.system.processes[name].stop(GRACE_SECONDS) == 0
        await fleet.start(name)
        mine = {number: ownership.epoch for number, ownership in before.items() if ownership.owner == name}
        await eventually(partial(have_been_taken_over, fleet, mine))

    after = await fleet.owners()
    assert {number: (ownership.owner, ownership.epoch) for number, ownership in after.items()} == {
        number: (ownership.owner, ownership.epoch + 1) for number, ownership in before.items()
    }, "only the enricher that came back took a partition over"
    assert ownership_history.require_no_former_producer(fleet.system)


@pytest.mark.at_length
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # see `storm`
async def test_nothing_goes_backwards_while_the_group_rebalances_every_second(
    fleet: Fleet, at_length: bool
) -> None:
    """P2: partition i of `changes` and of `snapshots` always has the same single owner, and only it writes.

    Meanwhile a seller's bulk start fills `snapshots`, orders change, and enrichers join and leave at random.
    """
    system, before = fleet.system, len(await ownership_history.ownerships(fleet.system))
    _, second, _ = await systems.seller_ids(system)
    await system.admin("POST", "/activity", {"rate": STORM_RATE})
    async with storm(system, seed=STORM_SEED) as blowing, asyncio.TaskGroup() as tasks:
        tasks.create_task(system.run("bootstrap", "--seller", str(second)))
        changes = await blowing.blow(60 if at_length else 10, every_seconds=1)

    found = await ownership_history.ownerships(system)
    assert ownership_history.moves(found) > changes
    sources = {source for ownership in found[before:] for _, source in ownership.writes}
    assert sources >= {"push", "bootstrap"}, "orders came from both topics"
    assert ownership_history.require_no_former_producer(system)


@pytest.mark.timeout(600)
async def test_killed_between_any_two_steps_nothing_is_lost_and_nothing_goes_backwards(
    fleet: Fleet, tmp_path: Path, at_length: bool
) -> None:
    """P4: each service dies at each of its fail points and goes on; all at the same time, under load."""
    system = fleet.system
    sellers = await systems.seller_ids(system)
    await system.run("bootstrap", *chain.from_iterable(("--seller", str(seller)) for seller in sellers))
    await system.admin("POST", "/activity", {"rate": KILLING_RATE})
    await eventually(fleet.all_write)
    # So that some orders must be asked for again.
    await system.admin("POST", "/faults/fresh_trade_missing", {"newborn_seconds": 2, "seconds": 600})
    async with systems.unseen_changes(system), asyncio.TaskGroup() as tasks:
        for name, points in VICTIMS.items():
            chosen = [point for point in points if at_length or point in IN_SECONDS]
            tasks.create_task(die_at_each(fleet, name, chosen, tmp_path))
        tasks.create_task(a_replay(system))

    await system.admin("DELETE", "/faults")
    await systems.require_clean_audit(system)
    await ownership_history.ownerships(system)
    assert ownership_history.require_no_former_producer(system)


async def test_every_fail_point_has_a_victim() -> None:
    elsewhere = {
        *test_comparison.POINTS_HERE,
        *test_dying_bulk_starts.POINTS_HERE,
        *test_dying_services.POINTS_HERE,
        *test_dying_commands.POINTS_HERE,
        *test_dying_replays.POINTS_HERE,
        *test_republishing.POINTS_HERE,
    }
    assert sorted(chain(*VICTIMS.values(), elsewhere)) == sorted(POINTS)


async def die_at_each(fleet: Fleet, name: str, points: Sequence[Point], folder: Path) -> None:
    """Let a service die at each of these points; afterwards it runs as before."""
    if name in fleet.system.processes:
        await fleet.system.kill(name)
    await executioner.die_at_each(partial(fleet.start, name), points, folder)
    await fleet.start(name)


async def a_replay(system: System) -> None:
    """Ask for a replay, as an operator would, until it is done.

    A replay during which the reconciler dies twice is not begun a third time.
    """
    seller, *_ = await systems.seller_ids(system)
    now = await systems.platform_now(system)
    span = (platform_time.format(now - timedelta(minutes=1)), platform_time.format(now))
    while True:
        command = ("replay", "--seller", str(seller), "--from", span[0], "--to", span[1], "--json")
        _, output = await system.try_run(*command)
        replay = orjson.loads(output.splitlines()[-1])
        if replay["state"] == "done":
            return
        assert replay["error"] == ENDED_PROCESSES


async def have_been_taken_over(fleet: Fleet, epochs: Mapping[int, int]) -> bool:
    """Whether these partitions have owners with later epochs, which have written."""
    now = await fleet.owners()
    return all(now[number].epoch > epoch and now[number].writes for number, epoch in epochs.items())
