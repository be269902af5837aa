"""The circuits that all processes share, and the evidence for them. Times are the database clock's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from topsync.budget.circuit import Circuit, CircuitState, Evidence
from topsync.store import database
from topsync.store.database import Connection, Pool, sql

JUDGING_LOCK: Final = 0x63697263
"""Advisory lock under which a single process at a time judges (the letters `circ`)."""


@asynccontextmanager
async def judging(pool: Pool) -> AsyncIterator[Connection]:
    """A transaction in which nobody else judges; a process that stands still within it loses it soon."""
    async with pool.acquire() as connection, connection.transaction():
        await database.end_when_idle(connection)
        await database.wait_for_transaction_lock(connection, JUDGING_LOCK)
        yield connection


async def testify(pool: Pool, counts: Mapping[str, Evidence]) -> None:
    """Add a process's evidence, as of now. Not idempotent: of a failed attempt, nothing is repeated."""
    rows = sorted((scope, each.calls, each.failed) for scope, each in counts.items())
    await pool.execute(sql("circuits.testify"), *map(list, zip(*rows, strict=True)))


async def now(pool: Pool | Connection) -> datetime:
    """The clock that circuits are judged by."""
    moment: datetime = await pool.fetchval(sql("circuits.now"))
    return moment


async def evidence(pool: Pool | Connection, *, since: datetime, until: datetime) -> dict[str, Evidence]:
    """What was counted within that time and, where a scope has a circuit, in the circuit's present state: by
    scope, of those with a failing call or a circuit.
    """
    rows = await pool.fetch(sql("circuits.evidence"), since, until)
    return {row["scope"]: Evidence(row["calls"], row["failed"]) for row in rows}


async def prune(pool: Pool, *, before: datetime, after: datetime) -> None:
    """Delete the evidence that nobody reads any more, and what a clock that was wrong has left ahead of
    `after`. Idempotent.
    """
    await pool.execute(sql("circuits.prune"), before, after)


async def all_of(pool: Pool | Connection) -> dict[str, Circuit]:
    """The circuits that are not closed, or were closed a short while ago, by scope."""
    return {row["scope"]: _read(*row.values()) for row in await pool.fetch(sql("circuits.all"))}


def _read(
    scope: str, state: str, since: datetime, opened_at: datetime, wait: timedelta, calls: int, failed: int
) -> Circuit:
    return Circuit(scope, CircuitState(state), since, opened_at, wait, Evidence(calls, failed))


async def write(pool: Pool | Connection, circuits: Sequence[Circuit], forgotten: Collection[str]) -> None:
    """Write down circuits that have changed, and forget those that are closed for good. Idempotent."""
    if circuits:
        columns = zip(
            *(
                (c.scope, c.state, c.since, c.opened_at, c.wait, c.evidence.calls, c.evidence.failed)
                for c in circuits
            ),
            strict=True,
        )
        await pool.execute(sql("circuits.write"), *map(list, columns))
    if forgotten:
        await pool.execute(sql("circuits.forget"), list(forgotten))
