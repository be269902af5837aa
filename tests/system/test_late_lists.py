"""P1 when the platform's lists are later than anybody allowed for: measured, learnt, taken back, told of.

In the first test, half of the orders come without a message. Only the claims that are taken back let any pull
list them again: the lists are later than sweeps reach back. In the others, one of two reconcilers stands
still while the other raises the allowance.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

import orjson
import pytest

from schemas import cloud_events
from schemas.notification import AllowanceChanged
from tests.support import systems
from tests.support.eventually import eventually
from tests.support.systems import Changed, frozen
from topsync.local.processes import ManagedProcess
from topsync.local.system import Scale, System

ALLOWANCE_SECONDS, OVERLAP_SECONDS, SWEEP_SECONDS = 2, 1, 1
LATE_SECONDS = 9
"""More than sweeps reach back: allowance, overlap, interval and a second or two for the pull itself."""

SETTINGS = {
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": str(ALLOWANCE_SECONDS),
    "TOPSYNC_OVERLAP_SECONDS": str(OVERLAP_SECONDS),
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": str(SWEEP_SECONDS),
    "TOPSYNC_VISIBILITY_MOST_SECONDS": "60",
}
LATE = {"max_delay_seconds": LATE_SECONDS, "min_delay_seconds": LATE_SECONDS}


@pytest.mark.at_length
async def test_lists_that_are_later_than_the_allowance_raise_it_and_lose_no_order(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    async with systems.system_on(
        kafka_bootstrap_servers,
        database_url,
        topic_prefix,
        Scale(sellers=2, orders=40, rate=0, visibility_delay_seconds=0),
        settings=SETTINGS,
    ) as system:
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        one, other = await systems.seller_ids(system)
        start = await systems.platform_now(system)
        await eventually(lambda: are_complete(system, start))

        await system.admin("POST", "/faults/visibility", LATE)
        unseen = [
            changed
            for seller in (one, other)
            for changed in await systems.change(system, seller, "create", count=3, message=False)
        ]
        (seen,) = await systems.change(system, one, "create")
        # They are claimed, and no list has shown them.
        await eventually(lambda: are_complete(system, seen.modified + timedelta(seconds=1)))
        assert await systems.stored(system, unseen) == 0

        said = await eventually_told(system)
        assert said.is_raised
        assert said.allowance_seconds > LATE_SECONDS
        assert said.evidence is not None
        assert said.evidence.modified <= seen.modified + timedelta(seconds=1)
        assert said.evidence.lacked_at > said.evidence.modified + timedelta(seconds=ALLOWANCE_SECONDS)
        assert said.taken_back_sellers == 2
        await eventually(lambda: are_stored(system, unseen))

        # What follows rests on the new allowance, in every process and without a restart.
        (later,) = await systems.change(system, other, "create", message=False)
        await eventually(lambda: are_complete(system, later.modified + timedelta(seconds=1)))
        await eventually(lambda: are_stored(system, [later]))
        lacked = "select sum(lacked) from arrivals where seconds >= $1"
        assert await systems.value(system, lacked, ALLOWANCE_SECONDS) >= 1
        await require_shown_in_status(system)
        await systems.require_clean_audit(system)


WATCH = """
create function untrue_claims() returns setof bigint stable language sql as $$
    select c.seller_id from coverage as c, visibility as v
    where v.allowance > interval '0'
      and upper(c.proven) > v.allowance * -1 + (
          select max(pulled_at) from windows as w where w.seller_id = c.seller_id and w.lists = 'orders'
      )
$$;
create table noted_claims (seller_id bigint not null);
create function note_untrue_claims() returns trigger language plpgsql as $$
begin
    insert into noted_claims select untrue_claims();
    return null;
end $$;
create trigger note_untrue_claims after insert or update on coverage
for each row execute function note_untrue_claims();

-- A claim waits here while a test wants it: it has read the allowance, and written nothing yet.
create table held_up (seller_id bigint not null);
create function wait_here() returns trigger language plpgsql as $$
begin
    if exists (select from held_up as h where h.seller_id = new.seller_id) then
        perform pg_advisory_xact_lock_shared(0);
    end if;
    return new;
end $$;
create trigger wait_here before insert on windows for each row execute function wait_here();
"""
"""No claim may be younger than the newest list less the allowance that was learnt by then."""

HELD = """
select right(name, strpos(reverse(name), '/') - 1)::integer as pid, key::bigint as seller_id
from reconcilers join work_leases on holder = id and kind = 'seller'
"""

LAST_WINDOW = "select max(id) from windows where seller_id = $1"
IS_RAISED = "select allowance > interval '0' from visibility"
WAITS_TO_RAISE = """
select exists (
    select from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'from visibility for update'
)
"""
WAITS_HERE = """
select exists (select from pg_stat_activity where wait_event = 'advisory' and query ~ 'into windows')
"""
CLAIMED_BY_THE_OLD_LIST = """
select exists (
    select from windows where seller_id = $1 and id > $2 and pulled_at < (select changed_at from visibility)
)
"""

FROZEN_BEFORE_SECONDS = 3
"""Before the late list appears; so long that a process is not taken for dead meanwhile."""


@asynccontextmanager
async def frozen_before_its_claim(system: System, victim: ManagedProcess, seller: int) -> AsyncIterator[None]:
    """It has listed, and waits until what it has listed is stored."""
    async with systems.orders_locked(system):
        (listed,) = await systems.change(system, seller, "create", message=False)
        await eventually(partial(is_hinted, system, listed))
        with frozen(victim):
            yield


@asynccontextmanager
async def frozen_within_its_claim(system: System, victim: ManagedProcess, seller: int) -> AsyncIterator[None]:
    """It has read the allowance, in a transaction that it has not ended."""
    connection = await systems.connect(system)
    try:
        await connection.execute("select pg_advisory_lock(0)")
        await connection.execute("insert into held_up values ($1)", seller)
        await eventually(lambda: systems.value(system, WAITS_HERE))
        with frozen(victim):
            yield
            await connection.execute("select pg_advisory_unlock(0)")
    finally:
        await connection.close()


@pytest.mark.at_length
@pytest.mark.parametrize("standing_still", [frozen_before_its_claim, frozen_within_its_claim])
async def test_a_reconciler_that_stands_still_while_the_allowance_is_raised_claims_nothing_by_the_old_one(
    kafka_bootstrap_servers: str,
    database_url: str,
    topic_prefix: str,
    standing_still: Callable[[System, ManagedProcess, int], AbstractAsyncContextManager[None]],
) -> None:
    async with systems.system_on(
        kafka_bootstrap_servers,
        database_url,
        topic_prefix,
        Scale(sellers=2, orders=40, rate=0, visibility_delay_seconds=0),
        settings=SETTINGS,
    ) as system:
        connection = await systems.connect(system)
        await connection.execute(WATCH)
        await connection.close()
        for name in ("push", "enrich", "witness"):
            await system.start(name)
        for name in ("reconcile-1", "reconcile-2"):
            await system.start(name, service="reconcile")
        await system.run("bootstrap")
        await eventually(lambda: are_shared(system))
        (victims_pid, seller), (_, other) = (await held(system)).items()
        victim = next(each for each in system.processes.values() if each.pid == victims_pid)

        await system.admin("POST", "/faults/visibility", LATE)
        (seen,) = await systems.change(system, other, "create")
        await system.admin("DELETE", "/faults")
        await eventually(lambda: are_stored(system, [seen]))
        shown_at = seen.modified + timedelta(seconds=LATE_SECONDS)
        await eventually(lambda: is_past(system, shown_at - timedelta(seconds=FROZEN_BEFORE_SECONDS)))

        last = await systems.value(system, LAST_WINDOW, seller)
        async with standing_still(system, victim, seller):
            assert not await systems.value(system, IS_RAISED), "it stands still before"
            await eventually(lambda: is_raised_or_waited_for(system))

        await eventually(lambda: systems.value(system, IS_RAISED))
        assert await systems.rows(system, "select untrue_claims()") == []
        await eventually(lambda: systems.value(system, CLAIMED_BY_THE_OLD_LIST, seller, last))
        assert await systems.rows(system, "select * from noted_claims") == []
        assert "lease lost" not in victim.log_tail(1000)
        await systems.require_clean_audit(system)


async def are_shared(system: System) -> bool:
    return len(await held(system)) == 2


async def held(system: System) -> dict[int, int]:
    """The seller that each reconciler has, by the id of its process."""
    return {row["pid"]: row["seller_id"] for row in await systems.rows(system, HELD)}


async def is_past(system: System, moment: datetime) -> bool:
    return await systems.platform_now(system) >= moment


async def is_hinted(system: System, changed: Changed) -> bool:
    return str(changed.tid) in {hint["tid"] for hint in await systems.changes(system)}


async def is_raised_or_waited_for(system: System) -> bool:
    """Another process has raised the allowance, or waits until it may."""
    raised = await systems.value(system, IS_RAISED)
    return bool(raised or await systems.value(system, WAITS_TO_RAISE))


async def eventually_told(system: System) -> AllowanceChanged:
    """The notification, when it is there."""
    found: list[AllowanceChanged] = []

    async def is_told() -> bool:
        records = await systems.records(
            systems.kafka_settings(system), systems.registry(system).notifications
        )
        found[:] = [
            AllowanceChanged.model_validate_json(each.value or b"")
            for each in records
            if cloud_events.attributes(each.headers)["type"] == AllowanceChanged.event_type
        ]
        return bool(found)

    await eventually(is_told)
    return found[0]


async def are_complete(system: System, moment: datetime) -> bool:
    query = "select bool_and(upper((select range_agg(r) from unnest(proven) as r)) >= $1) from coverage"
    return bool(await systems.value(system, query, moment))


async def are_stored(system: System, changed: list[systems.Changed]) -> bool:
    return await systems.stored(system, changed) == len(changed)


async def require_shown_in_status(system: System) -> None:
    _, output = await system.try_run("status", "--json")
    shown = orjson.loads(output.splitlines()[-1] if output.startswith("{") else output)["visibility"]
    assert shown["allowance_seconds"] > LATE_SECONDS
    assert shown["otherwise_seconds"] == ALLOWANCE_SECONDS
    assert shown["because"] == "learned"
    assert shown["since"] is not None
