"""Reconcilers share the sellers. When one stops, dies or stands still, others take over.

The whole file uses one system with reconcilers as processes. The database itself notes who wrote each claim.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from signal import SIGCONT

import pytest
import pytest_asyncio

from tests.support import systems
from tests.support.eventually import eventually
from tests.support.systems import Changed, frozen, table_locked
from topsync.local.processes import ManagedProcess
from topsync.local.system import Scale, System

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

SELLERS = 4
SCALE = Scale(sellers=SELLERS, orders=SELLERS * 20, rate=0)
SETTINGS = {
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": "1",
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "1",
    "TOPSYNC_RECONCILE_CALM_SECONDS": "8",
}
HANDED_OVER_SECONDS = 15
"""After a death."""

INSTALL = """
create table claims (
    at      timestamptz not null default clock_timestamp(),
    writer  text        not null default current_setting('application_name'),
    claim   text        not null
);
create function note_claim() returns trigger language plpgsql as $$
begin
    insert into claims (claim) values (tg_table_name);
    return null;
end $$;
create trigger note_claim after insert or update on windows for each row execute function note_claim();
create trigger note_claim after insert or update on coverage for each row execute function note_claim();
create trigger note_claim after update on gaps for each row execute function note_claim();
create trigger note_claim after update of pulled_at on work_leases for each row execute function note_claim();
"""

SHARES = """
select right(name, strpos(reverse(name), '/') - 1)::integer as pid, count(key) as sellers
from reconcilers left join work_leases on holder = id and kind = 'seller'
group by id, name
"""


@dataclass
class Reconcilers:
    """A system whose reconcilers are started by the test."""

    system: System

    async def start(self, name: str) -> ManagedProcess:
        """Start a reconciler."""
        return await self.system.start(name, service="reconcile")

    async def stop(self, name: str) -> None:
        """End a reconciler in good order."""
        assert await self.system.processes.pop(name).stop() == 0

    async def shares(self) -> dict[int, int]:
        """How many sellers each process has, by its id."""
        return {row["pid"]: row["sellers"] for row in await systems.rows(self.system, SHARES)}

    async def are_shared(self, *among: ManagedProcess) -> bool:
        """Whether these processes, and no others, have the same number of sellers each."""
        return await self.shares() == {process.pid: SELLERS // len(among) for process in among}

    async def epochs(self) -> dict[str, int]:
        """How often each seller was taken."""
        rows = await systems.rows(self.system, "select key, epoch from work_leases where kind = 'seller'")
        return {row["key"]: row["epoch"] for row in rows}

    async def claims_of(self, process: ManagedProcess) -> int:
        """How much a process has claimed so far."""
        query = "select count(*) from claims where writer like '%/' || $1"
        found: int = await systems.value(self.system, query, str(process.pid))
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(kafka_bootstrap_servers: str, database_server_url: str) -> AsyncIterator[Reconcilers]:
    async with systems.system_apart(
        kafka_bootstrap_servers, database_server_url, SCALE, settings=SETTINGS
    ) as system:
        connection = await systems.connect(system)
        await connection.execute(INSTALL)
        await connection.close()
        for name in ("push", "enrich", "witness"):
            await system.start(name)
        running = Reconcilers(system)
        first, second = await running.start("reconcile-1"), await running.start("reconcile-2")
        await system.run("bootstrap")
        await eventually(partial(running.are_shared, first, second), within_seconds=30)
        yield running
        system.require_running()


async def test_a_frozen_reconciler_that_thaws_writes_nothing_of_what_others_have_taken(
    live: Reconcilers,
) -> None:
    """I4: all its pulls were under way when it was frozen, and go on when it thaws."""
    system = live.system
    victim, other = system.processes["reconcile-1"], system.processes["reconcile-2"]
    await system.kill("enrich")
    missed = [
        changed
        for seller in await systems.seller_ids(system)
        for changed in await systems.change(system, seller, "create", message=False)
    ]
    await eventually(partial(are_hinted, system, missed), within_seconds=30)
    with frozen(victim):
        await eventually(partial(live.are_shared, other), within_seconds=HANDED_OVER_SECONDS)
        await system.start("enrich")
        await eventually(partial(are_stored, system, missed), within_seconds=30)
        before = await live.claims_of(victim)
        others = await live.claims_of(other)
        await eventually(partial(has_claimed_more, live, other, others))
        # So that only its pulls go on, and it does not find out first that others have its work.
        async with table_locked(system, "reconcilers"):
            victim.signal(SIGCONT)
            await eventually(partial(has_said, victim, "lease lost; nothing more is written"))
    await eventually(partial(has_said, victim, "others took this process for dead"))
    assert await live.claims_of(victim) == before
    await eventually(partial(live.are_shared, victim, other), within_seconds=30)
    await systems.require_clean_audit(system)


async def test_a_rolling_restart_moves_each_seller_once(live: Reconcilers) -> None:
    """As Kubernetes does it by our manifests: a new process joins before an old process ends."""
    before = await live.epochs()
    for old, new in (("reconcile-1", "reconcile-3"), ("reconcile-2", "reconcile-4")):
        remaining = [process for name, process in live.system.processes.items() if "reconcile-" in name]
        newcomer = await live.start(new)
        await eventually(partial(has_joined, live, newcomer))
        leaving = live.system.processes[old]
        await live.stop(old)
        remaining = [each for each in remaining if each is not leaving]
        await eventually(partial(live.are_shared, newcomer, *remaining), within_seconds=5)
    assert await live.epochs() == {key: epoch + 1 for key, epoch in before.items()}


async def test_a_death_hands_everything_over(live: Reconcilers) -> None:
    system = live.system
    victim, other = (system.processes[name] for name in ("reconcile-3", "reconcile-4"))
    victim.kill()
    await victim.wait()
    del system.processes["reconcile-3"]
    await eventually(partial(live.are_shared, other), within_seconds=HANDED_OVER_SECONDS)
    missed = [
        changed
        for seller in await systems.seller_ids(system)
        for changed in await systems.change(system, seller, "create", message=False)
    ]
    await eventually(partial(are_stored, system, missed), within_seconds=30)
    await systems.require_clean_audit(system)


@pytest.mark.at_length
async def test_it_stands_by_while_a_reconciler_of_the_former_release_works(live: Reconcilers) -> None:
    """That holds the lock alone, and waits in turn while one of this release works."""
    for name in [name for name in live.system.processes if name.startswith("reconcile-")]:
        await live.stop(name)
    former = await systems.connect(live.system)
    try:
        assert await former.fetchval("select pg_try_advisory_lock($1::bigint)", 0x72656364)
        newcomer = await live.start("reconcile-5")
        await eventually(partial(has_said, newcomer, "of the former release works"))
        assert not await live.shares()
        await former.execute("select pg_advisory_unlock_all()")
        await eventually(partial(live.are_shared, newcomer))
        assert not await former.fetchval("select pg_try_advisory_lock($1::bigint)", 0x72656364)
    finally:
        await former.close()


async def are_hinted(system: System, changed: Sequence[Changed]) -> bool:
    return {str(each.tid) for each in changed} <= {hint["tid"] for hint in await systems.changes(system)}


async def are_stored(system: System, changed: Sequence[Changed]) -> bool:
    return await systems.stored(system, changed) == len(changed)


async def has_claimed_more(live: Reconcilers, process: ManagedProcess, than: int) -> bool:
    return await live.claims_of(process) > than


async def has_joined(live: Reconcilers, process: ManagedProcess) -> bool:
    return process.pid in await live.shares()


async def has_said(process: ManagedProcess, text: str) -> bool:
    return process.log.exists() and text in process.log_tail(1000)
