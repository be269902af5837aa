"""The call budget that all processes share: leases, bans, and the calls of the day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple

from topsync.budget import leases
from topsync.budget.leases import Ask, LeaseGrant
from topsync.model.call_limits import APP, CallLimits
from topsync.store.database import Connection, Pool, sql

BANS: Final = "call_bans"
"""The channel on which a stored ban is announced, as `scope seconds`."""


class Ban(NamedTuple):
    """A scope that the platform has closed."""

    scope: str
    until: datetime


async def add(connection: Connection, limits: CallLimits) -> None:
    """Make the rows that leases under these limits need. Idempotent."""
    await connection.execute(sql("call_budget.add"), [APP, *sorted(limits.api_calls_per_second)])


async def lease(
    connection: Connection, limits: CallLimits, ask: Ask, *, timeout_seconds: float
) -> LeaseGrant:
    """Answer an ask by the rule of `topsync.budget.leases`, in a statement; asks are answered in turn.

    Raises:
        TimeoutError: places may have been leased nevertheless; they lapse.
    """
    lines = leases.terms(limits, ask)
    row = await connection.fetchrow(
        sql("call_budget.lease"),
        [line.scope for line in lines],
        [line.interval_seconds for line in lines],
        [line.guaranteed_seconds for line in lines],
        [line.quota for line in lines],
        ask.priority + 1,  # arrays count from 1
        leases.horizon_seconds(ask.priority),
        leases.FURTHEST_SECONDS,
        ask.wanted,
        ask.returned,
        timeout=timeout_seconds,
    )
    if row is None:
        raise LookupError("the budget has no row for the app: `add` comes first")
    return LeaseGrant(
        answered_at=row["now"].timestamp(),
        calls=row["calls"],
        starts_in_seconds=row["starts_in"],
        spacing_seconds=row["spacing"],
        again_in_seconds=row["again_in"],
        day_is_spent=row["day_is_spent"],
        day_ends_in_seconds=row["day_ends_in"],
        spent=row["spent"],
        bans=dict(zip(row["banned"] or [], row["banned_seconds"] or [], strict=True)),
    )


async def ban(pool: Pool, scope: str, seconds: float) -> None:
    """Close a scope for everybody, for `seconds` from now. A ban that ends before the ban in force changes
    nothing. Idempotent except for the time that passes.
    """
    await pool.execute(sql("call_budget.ban"), scope, seconds)


def read_notification(payload: str) -> tuple[str, float]:
    """The scope and the seconds in a message on `BANS`."""
    scope, seconds = payload.rsplit(" ", 1)
    return scope, float(seconds)


async def listen(connection: Connection, heard: Callable[[str, float], None]) -> None:
    """Call `heard(scope, seconds)` for each ban that is stored, as long as the connection lives."""
    await connection.add_listener(BANS, lambda _, __, ___, payload: heard(*read_notification(str(payload))))


async def spent_today(pool: Pool) -> int:
    """Calls leased on the platform's present day."""
    return int(await pool.fetchval(sql("call_budget.spent_today")))


async def bans(pool: Pool) -> list[Ban]:
    """The bans in force, by scope."""
    return [Ban(row["scope"], row["until"]) for row in await pool.fetch(sql("call_budget.bans"))]
