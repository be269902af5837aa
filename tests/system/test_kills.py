"""P4, I1, I3: whatever is killed, at any moment, the copy is complete and up to date afterwards.

These kills need a certain situation; `test_fleet.py` has the kills between the steps of a process.

The whole file uses one system, with a witness from its start. Each test kills a part at a moment when its
work has provably begun and is not done, lets it start again, and audits: order by order, platform = table =
topic, nothing ever went backwards, the ledger has no hole. To make sure of that moment, the test first
freezes what the work waits for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from signal import SIGKILL

import pytest
import pytest_asyncio

from tests.support import resources, systems
from tests.support.eventually import eventually, holds
from tests.support.supervisor import Supervisor
from tests.support.systems import Changed, frozen
from topsync.local.kafka import EmbeddedKafka
from topsync.local.postgres import EmbeddedPostgres
from topsync.local.processes import ManagedProcess
from topsync.local.system import SERVICES, Scale, System

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 10
ROWS = "select count(*) from slice_rows where order_id is null"
SCALE = Scale(sellers=2, orders=1600, rate=0)
"""For each seller more than a loading job hands over at once (500)."""

KILLED = -SIGKILL
MOST_OF_A_CORE = 0.3
MOST_LINES, MOST_LINES_A_SECOND = 40, 3
MOST_BYTES_MORE = 48 * 1024 * 1024
"""One and a half times what push may hold."""
MOST_CALLS = 3 * RATE
"""The calls that were under way when the server went away."""

CUT_SECONDS = 2
LOST_ORDERS = 60


@dataclass(frozen=True)
class Cluster:
    """A running system with a supervisor, and its servers."""

    system: System
    supervisor: Supervisor
    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    async with systems.private_system(SCALE, settings=systems.NO_SWEEPS) as system:
        await system.start_services()
        await system.start("witness")
        kafka, postgres = system.servers.kafka, system.servers.postgres
        assert kafka
        assert postgres
        async with Supervisor(system, [*SERVICES, "witness"]) as supervisor:
            yield Cluster(system, supervisor, kafka, postgres)


@pytest.fixture
def away_seconds(at_length: bool) -> float:
    """How long a server is away."""
    return 60 if at_length else 5


@pytest_asyncio.fixture(loop_scope="module")
async def live(cluster: Cluster) -> Cluster:
    """The cluster with every seller live, changing orders, and nothing left of earlier tests."""
    if not await steps_are(cluster.system, "live"):
        await cluster.system.run("bootstrap")
    await cluster.system.admin("POST", "/activity", {"rate": RATE})
    before = await written(cluster.system)
    await eventually(lambda: has_written(cluster.system, more_than=before + RATE))
    return cluster


@pytest.mark.at_length
async def test_bootstrap_killed_while_it_loads_goes_on_where_it_stopped(cluster: Cluster) -> None:
    system = cluster.system
    await system.admin("POST", "/activity", {"rate": RATE})
    job = await system.start("bootstrap")
    await eventually(lambda: slices_are(system, "requested", "running"))
    with frozen(cluster.kafka.process):
        # It notes what it reads from the file, then hands it over: to a broker that does not answer.
        await eventually(lambda: every_seller_has_noted_rows(system))
        job.kill()
        await job.wait()
    noted = await systems.value(system, ROWS)
    assert await slices_are(system, "downloaded")

    await system.run("bootstrap")

    assert await steps_are(system, "live")
    assert await slices_are(system, "stored")
    assert await systems.value(system, ROWS) > noted
    assert await systems.value(
        system,
        "select bool_and(lines > 500 and lines = published + repaired + refused and objects = counted) "
        "from export_slices where kind = 'order'",
    )
    assert cluster.supervisor.take_ended() == []
    await systems.require_clean_audit(system)


async def test_kafka_killed_with_messages_and_orders_on_their_way_into_it_and_away_for_a_while(
    live: Cluster, away_seconds: float
) -> None:
    system = live.system
    async with stuck_before_publishing(live):
        await eventually(lambda: messages_in_flight(system, at_least=RATE))
        await live.kafka.kill()
    await wait_quietly(system, away_seconds)
    await live.kafka.restart()

    await systems.require_clean_audit(system)

    assert live.supervisor.take_ended() == []


async def test_postgres_killed_in_the_middle_of_a_writers_statement_and_away_for_a_while(
    live: Cluster, away_seconds: float
) -> None:
    system = live.system
    async with systems.orders_locked(system):
        await eventually(lambda: an_upsert_waits(system))
        await live.postgres.kill()
    await eventually(lambda: has_unread(system, at_least=RATE))
    await wait_quietly(system, away_seconds)
    await live.postgres.restart()

    await systems.require_clean_audit(system)

    assert live.supervisor.take_ended() == []


async def test_postgres_restarted_in_order_in_the_middle_of_a_writers_statement(live: Cluster) -> None:
    """A failover or an upgrade: the server closes its connections, with another error than in a crash."""
    system = live.system
    async with systems.orders_locked(system):
        await eventually(lambda: an_upsert_waits(system))
        await live.postgres.restart()

    await systems.require_clean_audit(system)

    assert live.supervisor.take_ended() == []


async def test_reconciler_killed_while_it_replays_a_gap(live: Cluster) -> None:
    system, reconciler = live.system, live.system.processes["reconcile"]
    before = await systems.last_gap(system)
    async with systems.gaps_opened_and_closed(system):
        with frozen(system.processes["enrich"]):
            await system.admin("POST", "/faults/cut", {"seconds": CUT_SECONDS, "lose_messages": True})
            seller, *_ = await systems.seller_ids(system)
            lost = await systems.change(system, seller, "create", count=LOST_ORDERS, message=False)
            await eventually(lambda: gap_is_hinted(system, seller, lost, after=before))
            reconciler.kill()
            await reconciler.wait()
            assert await systems.stored(system, lost) < LOST_ORDERS

    assert await systems.stored(system, lost) == LOST_ORDERS
    assert live.supervisor.take_ended() == [("reconcile", KILLED)]
    await systems.require_clean_audit(system)


async def wait_quietly(system: System, seconds: float) -> None:
    """While a server is away, every service waits for it, without a busy loop and within bounds."""
    services = [system.processes[name] for name in (*SERVICES, "witness")]
    calls = await systems.gateway_calls(system)
    before = [resources.of(service) for service in services]
    await holds(partial(all_run, services), for_seconds=seconds)
    for service, was in zip(services, before, strict=True):
        used = resources.of(service)
        assert used.cpu_seconds - was.cpu_seconds < MOST_OF_A_CORE * seconds, service
        assert used.log_lines - was.log_lines < MOST_LINES + MOST_LINES_A_SECOND * seconds, service.log_tail()
        assert used.memory_bytes - was.memory_bytes < MOST_BYTES_MORE, service
    assert await systems.gateway_calls(system) - calls < MOST_CALLS


async def all_run(services: Sequence[ManagedProcess]) -> bool:
    return all(service.returncode is None for service in services)


@asynccontextmanager
async def stuck_before_publishing(cluster: Cluster) -> AsyncIterator[None]:
    """Orders are stored and not published: the broker is frozen while their upsert waits for a lock."""
    async with AsyncExitStack() as stack:
        async with systems.orders_locked(cluster.system):
            await eventually(lambda: an_upsert_waits(cluster.system))
            stack.enter_context(frozen(cluster.kafka.process))
        await eventually(lambda: has_unpublished(cluster.system))
        yield


async def steps_are(system: System, step: str) -> bool:
    steps = await systems.rows(system, "select state from bootstraps")
    return [row["state"] for row in steps] == [step] * SCALE.sellers


async def slices_are(system: System, *states: str) -> bool:
    """Whether every seller has a slice of orders, and all of these are in one of the states."""
    rows = await systems.rows(system, "select state from export_slices where kind = 'order'")
    return len(rows) == SCALE.sellers and {row["state"] for row in rows} <= set(states)


async def every_seller_has_noted_rows(system: System) -> bool:
    sellers: int = await systems.value(system, "select count(distinct seller_id) from slice_rows")
    return sellers == SCALE.sellers


async def messages_in_flight(system: System, *, at_least: int) -> bool:
    return (await systems.channel(system))["in_flight"] >= at_least


async def written(system: System) -> int:
    versions: int = await systems.value(system, "select coalesce(sum(revision), 0) from orders")
    return versions


async def has_written(system: System, *, more_than: int) -> bool:
    return await written(system) > more_than


async def has_unpublished(system: System) -> bool:
    unpublished: int = await systems.value(
        system, "select count(*) from orders where published_revision < revision"
    )
    return unpublished > 0


async def has_unread(system: System, *, at_least: int) -> bool:
    return await systems.unread_changes(system) >= at_least


async def an_upsert_waits(system: System) -> bool:
    return await systems.waiting_upserts(system) > 0


async def gap_is_hinted(system: System, seller_id: int, lost: list[Changed], *, after: int) -> bool:
    """Whether a gap's pull has begun, and hinted one of these orders."""
    begun = await systems.value(
        system,
        "select count(*) from gaps where id > $1 and seller_id = $2 and pulled_at is not null",
        after,
        seller_id,
    )
    if not begun:
        return False
    hinted = {int(hint["tid"]) for hint in await systems.changes(system) if hint["source"] == "gap"}
    return not hinted.isdisjoint(each.tid for each in lost)
