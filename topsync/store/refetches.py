"""Orders to be asked for again later, because the platform did not show them, or not as announced.

A writer notes them before it commits the offsets of their hints, so no hint is forgotten; the reconciler
publishes hints for them again when they are due. There is a single row per order.

Messages that wait for others of their order are noted here as well (`linger`): nothing is missing so far, and
the reconciler publishes a hint for them once.

The orders of a seller that is away are *parked*: they are due when it is back. Until then they are not asked
for and no attempt counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import asyncpg

from schemas.opaque import storable_text
from topsync.model.kind import Kind
from topsync.model.refetch import BACKLOG, LATE, NO_NEWS, Lingering, OrderPart, Refetch
from topsync.store.database import Pool, sql
from topsync.store.version_tables import sql_over


def read(row: asyncpg.Record) -> Refetch:
    """A refetch from its row."""
    return Refetch(**{**row, "parts": read_parts(row["parts"])})


def read_parts(column: Iterable[tuple[str, int]]) -> tuple[OrderPart, ...]:
    """The parts in a row. A newer release may have noted others, which are its own to ask for."""
    return tuple(OrderPart(kind, id_) for word, id_ in column if (kind := Kind.known(word)) is not None)


def _parts_text(parts: Iterable[OrderPart]) -> str:
    """Parts as the text of a PostgreSQL array, which has no arrays of arrays with different lengths."""
    return "{" + ",".join(f'"({part.kind},{part.id})"' for part in parts) + "}"


def join(wanted: Iterable[Refetch]) -> list[Refetch]:
    """Merge refetches of the same order: the later promises, the last trace and all parts count. Pure."""
    joined: dict[int, Refetch] = {}
    for refetch in wanted:
        other = joined.get(refetch.tid)
        joined[refetch.tid] = refetch if other is None else _join(other, refetch)
    return list(joined.values())


def _join(first: Refetch, other: Refetch) -> Refetch:
    promised = [moment for moment in (first.modified, other.modified) if moment is not None]
    return replace(
        other,
        occurred_at=max(first.occurred_at, other.occurred_at),
        settled_after=max(first.settled_after, other.settled_after),
        modified=max(promised, default=None),
        # A change that is known to be missing outweighs a change that is only possible.
        reason=first.reason if other.reason == NO_NEWS else other.reason,
        answer=other.answer or first.answer,
        parts=tuple(sorted({*first.parts, *other.parts})),
        traceparent=other.traceparent or first.traceparent,
    )


async def postpone(pool: Pool, wanted: Sequence[Refetch], *, wait: timedelta) -> None:
    """Note orders to be asked for again, the first time after `wait`. Idempotent.

    An order that is noted already keeps its time and its attempts, and takes the later of both promises. An
    order that is parked now has not been tried, and waits no longer than `wait` once its seller is back.
    """
    wanted = join(wanted)
    await _note(pool, wanted, [wait] * len(wanted))


async def linger(pool: Pool, wanted: Sequence[Lingering], *, now: datetime) -> None:
    """Note orders whose messages wait; `now` is platform time; name each order once. Idempotent.

    Of several messages about an order, the least patient decides. If something of the order is known to be
    missing, that stays the reason, and we ask for it again as soon as the messages need it.
    """
    await _note(
        pool, [lingering.order for lingering in wanted], [lingering.until - now for lingering in wanted]
    )


async def _note(pool: Pool, wanted: Sequence[Refetch], waits: Sequence[timedelta]) -> None:
    await pool.execute(
        sql("refetches.postpone"),
        [refetch.tid for refetch in wanted],
        [refetch.seller_id for refetch in wanted],
        [storable_text(refetch.event) for refetch in wanted],
        [refetch.occurred_at for refetch in wanted],
        [refetch.settled_after for refetch in wanted],
        [refetch.modified for refetch in wanted],
        [refetch.source for refetch in wanted],
        [refetch.reason for refetch in wanted],
        [refetch.answer for refetch in wanted],
        waits,
        [_parts_text(refetch.parts) for refetch in wanted],
        [refetch.traceparent for refetch in wanted],
    )


async def forget_answered(pool: Pool) -> None:
    """Forget refetches, due or asked for, whose order is stored as promised by now. Idempotent.

    Messages that wait promise no more than other messages, so whatever answers a message answers them, too
    (`consumer.enrich.read.decisions.is_answered`).
    """
    await pool.execute(sql_over("refetches.forget_answered"))


async def due(pool: Pool, *, limit: int) -> list[Refetch]:
    """Orders to be asked for now, of sellers that have a session, the longest waiting first.

    Without orders that are parked, in a backlog or lingering: there are other functions for them.
    """
    return list(map(read, await pool.fetch(sql("refetches.due"), limit)))


async def lingered(pool: Pool, *, limit: int) -> list[Refetch]:
    """Orders whose messages have waited long enough, in whatever state their seller is."""
    return list(map(read, await pool.fetch(sql("refetches.lingered"), limit)))


async def forget_hinted(pool: Pool, hinted: Sequence[Refetch]) -> None:
    """Forget these, because their hints are in `changes` now; what was noted meanwhile stays. Idempotent."""
    await pool.execute(
        sql("refetches.forget_hinted"),
        [refetch.tid for refetch in hinted],
        [refetch.settled_after for refetch in hinted],
    )


async def returned(pool: Pool, *, limit: int) -> list[Refetch]:
    """Parked orders whose seller is back, by time of occurrence; at most `limit` are open at a time."""
    return list(map(read, await pool.fetch(sql("refetches.returned"), limit)))


async def backlogs(pool: Pool, *, sources: Collection[str]) -> dict[int, int]:
    """How many orders that came from `sources` wait in the backlog, for each seller with a session."""
    rows = await pool.fetch(sql("refetches.backlogs"), BACKLOG, list(sources))
    return {row["seller_id"]: row["orders"] for row in rows}


async def alone(
    pool: Pool, *, sellers: Collection[int], sources: Collection[str], limit: int
) -> list[Refetch]:
    """Orders of a backlog, the longest waiting first: of these sellers, or from `sources`."""
    rows = await pool.fetch(sql("refetches.alone"), BACKLOG, list(sellers), list(sources), limit)
    return list(map(read, rows))


async def being_brought(pool: Pool) -> int:
    """How many orders of backlogs have been asked for but not stored."""
    return int(await pool.fetchval(sql("refetches.being_brought"), LATE))


async def reasons(pool: Pool, tids: Iterable[int]) -> dict[int, str]:
    """Why orders wait, for those of these orders that do."""
    return {row["tid"]: row["reason"] for row in await pool.fetch(sql("refetches.reasons"), list(tids))}


async def bring(pool: Pool, tids: Iterable[int], *, wait: timedelta) -> None:
    """Note that these orders of a backlog have been asked for; `wait` is how long each may take."""
    await pool.execute(sql("refetches.bring"), list(tids), LATE, wait)


async def asked(pool: Pool, waits: Mapping[int, timedelta]) -> None:
    """Note that these orders were asked for; `waits` says how long each waits until the next attempt.

    Of two processes that ask for the same order at the same time, one is counted.
    """
    await pool.execute(sql("refetches.asked"), list(waits.keys()), list(waits.values()))


async def forget(pool: Pool, given_up: Sequence[Refetch]) -> None:
    """Give these orders up, unless more was promised since they were read. Idempotent."""
    await pool.execute(
        sql("refetches.forget"),
        [refetch.tid for refetch in given_up],
        [refetch.settled_after for refetch in given_up],
        [refetch.modified for refetch in given_up],
    )


async def give_up(pool: Pool, promised: Mapping[int, datetime]) -> None:
    """Give these orders up, but keep those with a later promise than the given moment. Idempotent."""
    await pool.execute(sql("refetches.give_up"), list(promised.keys()), list(promised.values()))


async def not_there(pool: Pool, tids: Iterable[int], *, since: datetime, attempts: int) -> set[int]:
    """Of these orders, those that the platform did not know when it was asked `attempts` times more.

    `since` is the platform time from which on they are wanted.
    """
    rows = await pool.fetch(sql("refetches.not_there"), list(tids), since, attempts)
    return {row["tid"] for row in rows}


async def give_up_asked(pool: Pool, tids: Iterable[int], *, since: datetime) -> None:
    """Ask no more for these orders, unless anything but an operator's request of that time wants them."""
    await pool.execute(sql("refetches.give_up_asked"), list(tids), since)


async def waiting(pool: Pool) -> dict[str, int]:
    """How many orders wait, by reason."""
    return {row["reason"]: row["orders"] for row in await pool.fetch(sql("refetches.waiting"))}


async def parked(pool: Pool) -> dict[int, int]:
    """How many orders are parked, for each seller that has any."""
    return {row["seller_id"]: row["orders"] for row in await pool.fetch(sql("refetches.parked"))}
