"""P4: a database that takes no writes is an outage like any other: no process ends, and push goes on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import System

pytestmark = pytest.mark.asyncio(loop_scope="package")

ORDERS = 5

WAITING = {
    "push": "cannot write the connection's state down",
    "enrich": "the call budget cannot be reached|partition writer failed; taking over anew",
    "reconcile": "cannot reconcile without the database",
}
"""What each service logs when it meets the outage: the reconciler when it finds push silent, the enricher
before it asks for an order, or when it stores the order."""

Outage = Callable[[System], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def read_only(system: System) -> AsyncIterator[None]:
    """The server takes no writes, as after a failover to a standby, or when its provider protects it."""
    connection = await systems.connect(system)
    try:
        await connection.execute("set default_transaction_read_only = off")
        await connection.execute("alter system set default_transaction_read_only = on")
        await connection.execute("select pg_reload_conf()")
        yield
    finally:
        await connection.execute("alter system reset default_transaction_read_only")
        await connection.execute("select pg_reload_conf()")
        await connection.close()


@asynccontextmanager
async def full(system: System) -> AsyncIterator[None]:
    """Every write of a row fails as on a full disk. A real full disk would need the right to mount a disk."""
    connection = await systems.connect(system)
    tables = [
        row["tablename"]
        for row in await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
    ]
    try:
        await connection.execute(
            "create function disk_is_full() returns trigger language plpgsql as "
            "$$ begin raise 'could not extend file: No space left on device' using errcode = '53100'; end $$"
        )
        for table in tables:
            await connection.execute(
                f"create trigger full_disk before insert or update on {table} execute function disk_is_full()"
            )
        yield
    finally:
        # One table at a time: a lock on several would make a deadlock with the services' statements.
        for table in tables:
            await connection.execute(f"drop trigger if exists full_disk on {table}")
        await connection.execute("drop function disk_is_full")
        await connection.close()


@pytest.mark.parametrize("outage", [read_only, full])
async def test_no_process_ends_while_the_database_takes_no_writes_and_push_goes_on(
    calm: System, outage: Outage
) -> None:
    before = (await systems.channel(calm))["confirmed"]
    written = {name: calm.processes[name].log.stat().st_size for name in WAITING}

    def said_since(name: str) -> str:
        return calm.processes[name].log.read_bytes()[written[name] :].decode()

    async def all_have_met_it() -> bool:
        return all(re.search(line, said_since(name)) for name, line in WAITING.items())

    async def all_is_confirmed() -> bool:
        books = await systems.channel(calm)
        return books["confirmed"] >= before + ORDERS and books["confirmed"] == books["published"]

    async with outage(calm):
        seller, *_ = await systems.seller_ids(calm)
        created = await systems.change(calm, seller, "create", count=ORDERS)
        await eventually(all_is_confirmed)
        await eventually(all_have_met_it)
        assert await systems.stored(calm, created) == 0

    async def all_is_well() -> bool:
        open_gaps = await systems.value(calm, "select count(*) from gaps where closed_at is null")
        is_stored = await systems.stored(calm, created) == ORDERS
        return is_stored and open_gaps == 0 and "is written down again" in said_since("push")

    await eventually(all_is_well)
    calm.require_running()
    for name in WAITING:
        assert "Traceback" not in said_since(name)
