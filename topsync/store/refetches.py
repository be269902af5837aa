"""Orders to be asked for again later, because the platform did not show them, or not as it had promised.

A writer notes them before it commits the offsets of their hints, so none is forgotten; the reconciler
hints them again when they are due. One row per order, whatever becomes of it.

Messages that wait for others of their order are noted here as well (`linger`): nothing is missing yet, and
the reconciler hints the order once.

The orders of a seller that is away are *parked*: they are due when it is back, and until then nothing is
asked for and no attempt counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import asyncpg

from schemas.opaque import storable_text
from topsync.model.refetch import BACKLOG, LATE, NO_NEWS, Lingering, Refetch
from topsync.store.database import Pool, sql


def read(row: asyncpg.Record) -> Refetch:
    """One from its row."""
    return Refetch(**{**row, "refund_ids": tuple(row["refund_ids"])})


def join(wanted: Iterable[Refetch]) -> list[Refetch]:
    """One for each order; of what several say about one, the later promises and all refunds. Pure."""
    joined: dict[int, Refetch] = {}
    for one in wanted:
        other = joined.get(one.tid)
        joined[one.tid] = one if other is None else _join(other, one)
    return list(joined.values())


def _join(one: Refetch, other: Refetch) -> Refetch:
    promised = [moment for moment in (one.modified, other.modified) if moment is not None]
    return replace(
        other,
        occurred_at=max(one.occurred_at, other.occurred_at),
        settled_after=max(one.settled_after, other.settled_after),
        modified=max(promised, default=None),
        # What is known to be missing outweighs what may have been nothing.
        reason=one.reason if other.reason == NO_NEWS else other.reason,
        answer=other.answer or one.answer,
        refund_ids=tuple(sorted({*one.refund_ids, *other.refund_ids})),
    )


async def postpone(pool: Pool, wanted: Sequence[Refetch], *, wait: timedelta) -> None:
    """Note orders to be asked for again, the first time after `wait`. Idempotent.

    What is known already keeps its time and its attempts, and takes the later of both promises. What is
    parked now has not been tried, and waits no longer than `wait` once its seller is back.
    """
    wanted = join(wanted)
    await _note(pool, wanted, [wait] * len(wanted))


async def linger(pool: Pool, wanted: Sequence[Lingering], *, now: datetime) -> None:
    """Note orders whose messages wait; `now` is platform time, each order is named once. Idempotent.

    Of several messages about one order, the least patient decides. What is known to be missing of it stays
    the reason, and is asked for again as soon as the messages want it.
    """
    await _note(pool, [one.order for one in wanted], [one.until - now for one in wanted])


async def _note(pool: Pool, wanted: Sequence[Refetch], waits: Sequence[timedelta]) -> None:
    await pool.execute(
        sql("refetches.postpone"),
        [one.tid for one in wanted],
        [one.seller_id for one in wanted],
        [storable_text(one.event) for one in wanted],
        [one.occurred_at for one in wanted],
        [one.settled_after for one in wanted],
        [one.modified for one in wanted],
        [one.source for one in wanted],
        [one.reason for one in wanted],
        [one.answer for one in wanted],
        waits,
        # Arrays of different lengths do not make an array: each travels as its text.
        [f"{{{','.join(map(str, one.refund_ids))}}}" for one in wanted],
    )


async def forget_answered(pool: Pool) -> None:
    """Forget those due, and those asked for, whose order is stored as promised by now. Idempotent.

    Messages that wait promise no more than any message: what answers one answers them
    (`consumer.enrich.read.decisions.is_answered`).
    """
    await pool.execute(sql("refetches.forget_answered"))


async def due(pool: Pool, *, limit: int) -> list[Refetch]:
    """Those to be asked for now, of sellers that have a session, the longest waiting first.

    None that is parked, in a backlog or lingering: those have turns of their own.
    """
    return list(map(read, await pool.fetch(sql("refetches.due"), limit)))


async def lingered(pool: Pool, *, limit: int) -> list[Refetch]:
    """Those whose messages have waited long enough, whatever has become of their seller."""
    return list(map(read, await pool.fetch(sql("refetches.lingered"), limit)))


async def forget_hinted(pool: Pool, hinted: Sequence[Refetch]) -> None:
    """Forget these, whose hints are in `changes` now; what was noted meanwhile stays. Idempotent."""
    await pool.execute(
        sql("refetches.forget_hinted"), [one.tid for one in hinted], [one.settled_after for one in hinted]
    )


async def returned(pool: Pool, *, limit: int) -> list[Refetch]:
    """Those parked whose seller is back, in the order of occurrence; `limit` at most have no answer yet."""
    return list(map(read, await pool.fetch(sql("refetches.returned"), limit)))


async def backlogs(pool: Pool, *, sources: Collection[str]) -> dict[int, int]:
    """How many orders of each seller with a session wait in a backlog, of those found by `sources`."""
    rows = await pool.fetch(sql("refetches.backlogs"), BACKLOG, list(sources))
    return {row["seller_id"]: row["orders"] for row in rows}


async def alone(
    pool: Pool, *, sellers: Collection[int], sources: Collection[str], limit: int
) -> list[Refetch]:
    """Orders of a backlog, the longest waiting first: of these sellers, or found by `sources`."""
    rows = await pool.fetch(sql("refetches.alone"), BACKLOG, list(sellers), list(sources), limit)
    return list(map(read, rows))


async def being_brought(pool: Pool) -> int:
    """How many orders of backlogs have been asked for and are not stored yet."""
    return int(await pool.fetchval(sql("refetches.being_brought"), LATE))


async def reasons(pool: Pool, tids: Iterable[int]) -> dict[int, str]:
    """Why those of these orders wait that do."""
    return {row["tid"]: row["reason"] for row in await pool.fetch(sql("refetches.reasons"), list(tids))}


async def bring(pool: Pool, tids: Iterable[int], *, wait: timedelta) -> None:
    """Note that these orders of a backlog have been asked for, and how long each may take to come."""
    await pool.execute(sql("refetches.bring"), list(tids), LATE, wait)


async def asked(pool: Pool, waits: Mapping[int, timedelta]) -> None:
    """Note that these orders were asked for, and how long each waits until the next time."""
    await pool.execute(sql("refetches.asked"), list(waits.keys()), list(waits.values()))


async def forget(pool: Pool, tids: Iterable[int]) -> None:
    """Give these up. Idempotent."""
    await pool.execute(sql("refetches.forget"), list(tids))


async def give_up(pool: Pool, promised: Mapping[int, datetime]) -> None:
    """Give these up for what was promised up to then; a later promise is asked for still. Idempotent."""
    await pool.execute(sql("refetches.give_up"), list(promised.keys()), list(promised.values()))


async def waiting(pool: Pool) -> dict[str, int]:
    """How many wait, by reason."""
    return {row["reason"]: row["orders"] for row in await pool.fetch(sql("refetches.waiting"))}


async def parked(pool: Pool) -> dict[int, int]:
    """How many are parked of each seller that has any."""
    return {row["seller_id"]: row["orders"] for row in await pool.fetch(sql("refetches.parked"))}


class Waiting(NamedTuple):
    """How many orders of a seller wait."""

    waiting: int
    """To be asked for again, or for more messages."""
    parked: int
    """For their seller to be back."""


NONE_WAIT: Final = Waiting(0, 0)


async def of_sellers(pool: Pool) -> dict[int, Waiting]:
    """How many orders wait of each seller that has any."""
    rows = await pool.fetch(sql("refetches.of_sellers"))
    return {row["seller_id"]: Waiting(row["waiting"], row["parked"]) for row in rows}
