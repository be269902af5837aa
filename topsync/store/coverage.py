"""The coverage ledger: per seller, the spans of platform time that are proven complete."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from topsync.model.kind import Kind
from topsync.model.learned_allowance import LearningRules
from topsync.model.span import Span
from topsync.store import visibility, work_leases
from topsync.store.database import Connection, Pool, sql
from topsync.store.work_leases import WorkLease


@dataclass(frozen=True, slots=True)
class PulledWindow:
    """The result of pulling a window: announced = listed, and what became of it."""

    seller_id: int
    span: Span
    source: str
    reason: str | None
    pulled_at: datetime
    listed: int
    hinted: int
    proven_to: datetime | None
    """Exclusive; None when nothing of the window was proven."""
    lists: Kind = Kind.ORDER
    """What was listed. The ledger is made from the windows of orders only; see `record` for their parts."""


async def record(
    pool: Pool,
    windows: Sequence[PulledWindow],
    *,
    parts: Collection[Kind] = (),
    lease: WorkLease | None = None,
    learning: LearningRules | None = None,
) -> list[PulledWindow]:
    """Write pulled windows and, in the same transaction, what they prove (I4, I6). Returns what was written.

    Nothing is proven that rests on less than the visibility allowance that is learnt by then, whatever the
    pull knew: it is the fence against whoever listed before it was raised. `learning` says how much of it
    holds; None: all of it.

    `parts` says of which kinds of parts everything is true that the ledger now claims about the seller: they
    were listed for all of these windows, and for all that was claimed without them before
    (`claimed_without`). `lease` is the seller's, where its pulls are leased.

    Raises:
        LeaseLostError: another process pulls the seller now; nothing was written.
    """
    also = sorted(kind.value for kind in parts)
    async with work_leases.fenced(pool, lease) as connection:
        learned = await visibility.shared(connection)
        if learning is not None:
            learned = learning.in_force(learned)
        written = [_resting_on(window, learned) for window in windows]
        for window in written:
            await connection.execute(
                sql("coverage.record_window"),
                window.seller_id,
                window.span.start,
                window.span.end,
                window.source,
                window.reason,
                window.pulled_at,
                window.listed,
                window.hinted,
                window.proven_to,
                window.lists.plural,
            )
            if window.proven_to is not None and window.lists.leads:
                await prove(connection, window.seller_id, Span(window.span.start, window.proven_to))
                await connection.execute(sql("coverage.set_parts"), window.seller_id, also)
    return written


def _resting_on(window: PulledWindow, allowance: timedelta) -> PulledWindow:
    """The window, proving nothing that is younger than the allowance allows."""
    sure_to = window.pulled_at - allowance
    if window.proven_to is None or window.proven_to <= sure_to:
        return window
    return replace(window, proven_to=sure_to if sure_to > window.span.start else None)


async def prove(connection: Connection, seller_id: int, span: Span) -> None:
    """Add a half-open span to what is proven. Idempotent."""
    await connection.execute(sql("coverage.prove"), seller_id, span.start, span.end)


async def claimed_without(pool: Pool, seller_id: int, part: Kind) -> datetime | None:
    """Since when the ledger's claims about a seller leave a kind of parts out; None when they do not."""
    since: datetime | None = await pool.fetchval(sql("coverage.claimed_without"), seller_id, part.value)
    return since


async def parts_of_sellers(pool: Pool) -> dict[int, frozenset[Kind]]:
    """Of each seller, the kinds of parts that its claims include."""
    return {
        row["seller_id"]: frozenset(kind for word in row["parts"] if (kind := Kind.known(word)) is not None)
        for row in await pool.fetch(sql("coverage.parts"))
    }


async def proven(pool: Pool) -> dict[int, list[Span]]:
    """Per seller, the proven spans in order; they neither overlap nor touch."""
    return {
        row["seller_id"]: [Span(*ends) for ends in zip(row["starts"] or (), row["ends"] or (), strict=True)]
        for row in await pool.fetch(sql("coverage.proven"))
    }


async def proven_of(connection: Pool | Connection, seller_id: int) -> list[Span]:
    """A seller's proven spans in order; they neither overlap nor touch."""
    return [Span(*row) for row in await connection.fetch(sql("coverage.proven_of"), seller_id)]


async def last_proven(pool: Pool, seller_ids: Collection[int]) -> dict[int, datetime]:
    """The end of the last proven time of those sellers of which anything is proven (`spans.last_proven`)."""
    return {
        row["seller_id"]: row["last"]
        for row in await pool.fetch(sql("coverage.last_proven"), list(seller_ids))
    }
