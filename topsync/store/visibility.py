"""What is learnt of how late lists are: the allowance, its changes, the last lists, the histogram.

All of it is shared by all reconcilers. Times are platform time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from topsync.model.arrivals import ArrivalCounts, LastLists, LateArrival, ListedPart, Measured
from topsync.model.kind import Kind
from topsync.model.learned_allowance import LearnedAllowance
from topsync.model.span import Span
from topsync.store.database import Connection, Pool, sql

MAX_KNOWN: Final = 2000
"""Orders of the table that a list is compared with: the newest of its time."""


@dataclass(frozen=True, slots=True)
class ArrivalEvidence:
    """The late arrival that called for an allowance."""

    seller_id: int
    kind: Kind
    late: LateArrival


@dataclass(frozen=True, slots=True)
class VisibilityChange:
    """The learned allowance was raised or lowered."""

    id: int
    at: datetime
    before: timedelta
    allowance: timedelta
    seller_id: int | None
    """Of the evidence, where it was raised; None too where the seller was erased since."""
    kind: Kind | None
    object_id: int | None
    modified: datetime | None
    lacked_at: datetime | None
    shown_at: datetime | None
    arrivals: int
    """How many late arrivals exceeded what held."""
    taken_from: datetime | None
    """Claims after this moment that rested on less were taken back ..."""
    taken_of: int
    """... of so many sellers."""


async def learned(pool: Pool | Connection) -> LearnedAllowance:
    """What is learnt now."""
    return _learned(await pool.fetchrow(sql("visibility.learned")))


async def shared(connection: Connection) -> timedelta:
    """What is learnt, and stays as it is until this transaction ends."""
    allowance: timedelta = await connection.fetchval(sql("visibility.share"))
    return allowance


async def locked(connection: Connection) -> LearnedAllowance:
    """What is learnt. Until this transaction ends, nobody else changes it, and nobody claims anything."""
    return _learned(await connection.fetchrow(sql("visibility.lock")))


def _learned(row: asyncpg.Record | None) -> LearnedAllowance:
    assert row is not None, "the migration writes the row"
    return LearnedAllowance(row["allowance"], row["since"], row["changed_at"])


async def take_back(connection: Connection, since: datetime, allowance: timedelta) -> int:
    """Take back what is claimed from `since` on and no pull proves by this allowance. Returns of how many
    sellers.

    In the transaction of `locked`: otherwise a claim that rests on less may come in meanwhile.
    """
    return len(await connection.fetch(sql("visibility.take_back"), since, allowance))


async def change(
    connection: Connection,
    before: LearnedAllowance,
    allowance: timedelta,
    *,
    at: datetime,
    evidence: ArrivalEvidence | None = None,
    arrivals: int = 0,
    taken_from: datetime | None = None,
    taken_of: int = 0,
) -> None:
    """Set the allowance, and note it for people. In the transaction of `locked`."""
    await connection.execute(sql("visibility.set"), allowance, at)
    late = None if evidence is None else evidence.late
    await connection.execute(
        sql("visibility.note_change"),
        at,
        before.allowance,
        allowance,
        None if evidence is None else evidence.seller_id,
        None if evidence is None else evidence.kind.plural,
        None if late is None else late.id,
        None if late is None else late.modified,
        None if late is None else late.lacked_at,
        None if late is None else late.shown_at,
        arrivals,
        taken_from,
        taken_of,
    )


async def unnotified(pool: Pool, *, limit: int) -> list[VisibilityChange]:
    """The changes that no notification tells of yet, oldest first."""
    return [_change(row) for row in await pool.fetch(sql("visibility.unnotified"), limit)]


async def mark_notified(pool: Pool, ids: Sequence[int]) -> None:
    """Note that the notifications are out. Idempotent."""
    await pool.execute(sql("visibility.mark_notified"), list(ids))


async def last_raising(pool: Pool) -> VisibilityChange | None:
    """The last change upwards that is kept; None where there was none."""
    row = await pool.fetchrow(sql("visibility.last_raising"))
    return None if row is None else _change(row)


def _change(row: asyncpg.Record) -> VisibilityChange:
    return VisibilityChange(
        id=row["id"],
        at=row["at"],
        before=row["before"],
        allowance=row["allowance"],
        seller_id=row["seller_id"],
        kind=next((kind for kind in Kind if kind.plural == row["lists"]), None),
        object_id=row["object_id"],
        modified=row["modified"],
        lacked_at=row["lacked_at"],
        shown_at=row["shown_at"],
        arrivals=row["arrivals"],
        taken_from=row["taken_from"],
        taken_of=row["taken_of"],
    )


async def last_lists(connection: Pool | Connection, seller_id: int, kind: Kind) -> LastLists:
    """What the last lists of a kind of a seller have shown; nothing where none was remembered."""
    row = await connection.fetchrow(sql("visibility.last_lists"), seller_id, kind.plural)
    if row is None:
        return LastLists()
    parts = zip(row["starts"], row["ends"], row["asked_at"], row["allowances"], strict=True)
    return LastLists(
        [ListedPart(Span(start, end), asked_at, allowance) for start, end, asked_at, allowance in parts],
        dict(zip(row["ids"], row["modified"], strict=True)),
        dict(zip(row["awaited_ids"], row["awaited"], strict=True)),
    )


async def oldest_awaited(pool: Pool, seller_id: int, kind: Kind, since: datetime) -> datetime | None:
    """When the oldest change happened that is awaited: the table has it, and the last lists lacked it. Of
    those since a moment.
    """
    oldest: datetime | None = await pool.fetchval(
        sql("visibility.oldest_awaited"), seller_id, kind.plural, since
    )
    return oldest


async def remember(connection: Connection, seller_id: int, kind: Kind, lists: LastLists) -> None:
    """Replace what is remembered; nothing of a seller that is erased."""
    await connection.execute(
        sql("visibility.remember"),
        seller_id,
        kind.plural,
        [part.span.start for part in lists.parts],
        [part.span.end for part in lists.parts],
        [part.asked_at for part in lists.parts],
        [part.allowance for part in lists.parts],
        list(lists.shown),
        list(lists.shown.values()),
        list(lists.awaited),
        list(lists.awaited.values()),
    )


async def known_of(connection: Connection, seller_id: int, span: Span) -> dict[int, datetime]:
    """The `modified` of a seller's orders that were created in a span and have not changed since its end; of
    very many, the newest.
    """
    rows = await connection.fetch(
        sql("visibility.created_between"), seller_id, span.start, span.end, MAX_KNOWN
    )
    return {row["tid"]: row["modified"] for row in rows}


async def count(connection: Connection, measured: Measured) -> None:
    """Add to the histogram. Not idempotent: in the transaction in which the lists are remembered."""
    rows = [
        (hour, seconds, counts.shown, counts.lacked, counts.longest)
        for (hour, seconds), counts in measured.counts.items()
    ]
    if rows:
        await connection.execute(sql("visibility.count"), *map(list, zip(*rows, strict=True)))


async def longest(pool: Pool | Connection, since: datetime) -> timedelta:
    """By how much any change since then was surely late."""
    found: timedelta = await pool.fetchval(sql("visibility.longest"), since)
    return found


async def histogram(pool: Pool, since: datetime) -> Mapping[tuple[datetime, int], ArrivalCounts]:
    """The counts since then, by hour and step."""
    return {
        (row["hour"], row["seconds"]): ArrivalCounts(row["shown"], row["lacked"], row["longest"])
        for row in await pool.fetch(sql("visibility.histogram"), since)
    }
