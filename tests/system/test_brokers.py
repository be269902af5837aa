"""P1, P2, I1: of three brokers one is killed, frozen or cut off, or two are killed; nothing is lost.

What Kafka has acknowledged is on two of the three. The whole file uses one system, with a witness from its
start, and lets orders change all the time. There are no sweeps, which would bring what a broker had lost.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.support import kafka_cluster, systems
from tests.support.eventually import eventually, holds
from tests.support.kafka_cluster import SESSION_SECONDS, Cluster
from tests.support.supervisor import Supervisor
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.system import SERVICES, Scale, System

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.at_length,
    pytest.mark.timeout(900),
]

RATE = 20
PARTITIONS = 4
SCALE = Scale(sellers=2, orders=300, rate=0)
SETTINGS = {**systems.NO_SWEEPS, "TOPSYNC_PARTITIONS": str(PARTITIONS), "TOPSYNC_REPLICATION_FACTOR": "3"}
GOES_ON_WITHIN_SECONDS = 180
"""Brokers have to start anew, on a busy machine."""

NOTICED_WITHIN_SECONDS = 45
"""Of a broker that says nothing, a client waits 12 s for an answer and 5 s for a connection, perhaps for
several in turn: of the partition, then of the transaction. With 40 s for each, as the client library has
it, it takes longer."""

CUT_SECONDS = 20.0
"""Longer than a broker's session: the others would have been given its partitions if they did not see it."""

WRITES_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Clustered:
    """A running system with a supervisor, and its brokers."""

    system: System
    supervisor: Supervisor
    brokers: Cluster

    async def goes_on(self, *, within_seconds: float = GOES_ON_WITHIN_SECONDS) -> float:
        """Wait until orders of every partition are published anew; returns the seconds."""
        before, began = await systems.published(self.system), time.monotonic()

        async def all_have_more() -> bool:
            now = await systems.published(self.system)
            return len(now) == PARTITIONS and all(now[each] > before[each] for each in now)

        await eventually(all_have_more, within_seconds=within_seconds)
        return time.monotonic() - began

    async def whole_again(self) -> None:
        """Wait until every replica is in sync."""
        await self.brokers.whole_again(systems.kafka_settings(self.system))

    async def require_nothing_lost(self) -> None:
        """Audit, and check that no service has ended; afterwards orders change again."""
        await systems.require_clean_audit(self.system)
        assert self.supervisor.take_ended() == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(database_server_url: str) -> AsyncIterator[Clustered]:
    async with (
        ProcessGroup(run_folders.create()) as group,
        kafka_cluster.cluster(group) as brokers,
        systems.system_apart(
            brokers.bootstrap_servers, database_server_url, SCALE, settings=SETTINGS
        ) as running,
    ):
        await running.start_services()
        await running.start("witness")
        await running.run("bootstrap")
        async with Supervisor(running, [*SERVICES, "witness"]) as supervisor:
            yield Clustered(running, supervisor, brokers)


@pytest_asyncio.fixture(loop_scope="module")
async def live(system: Clustered) -> Clustered:
    """The system with all replicas in sync, and orders that change."""
    await system.whole_again()
    await system.system.admin("POST", "/activity", {"rate": RATE})
    await system.goes_on()
    return system


async def test_each_broker_may_be_killed_whatever_it_leads_and_whomever_it_coordinates(
    live: Clustered,
) -> None:
    for number, node in live.brokers.nodes.items():
        await node.kill()
        print(
            f"broker {number}: published in all partitions {await live.goes_on():.1f} s after it was killed"
        )
        await node.restart()
        await live.whole_again()
    await live.require_nothing_lost()


async def test_with_a_single_broker_left_nothing_is_confirmed_and_it_goes_on_with_the_second(
    live: Clustered,
) -> None:
    first, second, _ = live.brokers.nodes.values()
    await first.kill()
    await second.kill()

    async def confirms_nothing_more() -> bool:
        return (await systems.channel(live.system))["confirmed"] == confirmed

    confirmed = await eventually_still(live.system)
    await holds(confirms_nothing_more, for_seconds=WRITES_STOP_SECONDS)
    await first.restart()
    print(f"published in all partitions {await live.goes_on():.1f} s after the second broker was back")
    await second.restart()
    await live.require_nothing_lost()


async def test_a_broker_that_stands_still_is_replaced_and_writes_nothing_when_it_wakes_up(
    live: Clustered,
) -> None:
    settings = systems.kafka_settings(live.system)
    topic = systems.registry(live.system).orders.name
    leader = await live.brokers.leader(settings, topic, 0)
    with systems.frozen(live.brokers.nodes[leader].process):
        seconds = await live.goes_on(within_seconds=NOTICED_WITHIN_SECONDS)
        print(f"published in all partitions {seconds:.1f} s after broker {leader} stood still")
        assert await live.brokers.leader(settings, topic, 0) != leader
    await live.whole_again()
    await live.require_nothing_lost()


async def test_a_broker_that_only_clients_cannot_reach_delays_its_partitions_and_loses_nothing(
    live: Clustered,
) -> None:
    """The cluster sees nothing of it, so nobody takes its partitions over."""
    settings = systems.kafka_settings(live.system)
    topic = systems.registry(live.system).orders.name
    leader = await live.brokers.leader(settings, topic, 0)
    with live.brokers.nodes[leader].network.cut():
        before = (await systems.published(live.system))[0]

        async def is_stuck() -> bool:
            return (await systems.published(live.system))[0] - before <= 2 * RATE

        await holds(is_stuck, for_seconds=CUT_SECONDS)
    print(f"published in all partitions {await live.goes_on():.1f} s after broker {leader} could be reached")
    await live.require_nothing_lost()


async def eventually_still(system: System) -> int:
    """The number of confirmed messages, once it stays the same for some seconds."""
    last, since = -1, time.monotonic()

    async def is_still() -> bool:
        nonlocal last, since
        now = (await systems.channel(system))["confirmed"]
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > SESSION_SECONDS / 3

    await eventually(is_still)
    return last
