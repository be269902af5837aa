"""Orders to be asked for again later, because the platform did not show them, or not as it had promised.

A writer notes them before it commits the offsets of their hints, so none is forgotten; the reconciler
hints them again when they are due. One row per order, whatever becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from topsync.store.database import Pool, sql

NO_NEWS = "no_news"
"""The reason where the platform told of a change, and then showed what was known before."""


@dataclass(frozen=True, slots=True)
class Refetch:
    """One order to be asked for again. Times are platform time."""

    tid: int
    seller_id: int
    event: str
    occurred_at: datetime
    settled_after: datetime
    """Only a fetch that begins at or after this moment answers."""
    modified: datetime | None
    """The `modified` that the order is known to have reached; none where nobody told."""
    source: str
    reason: str
    """Why, in a fixed word for counting."""
    answer: bytes | None = field(default=None, repr=False)
    """The last answer that could not be read, whole."""
    attempts: int = 0
    """How often it has been asked for again."""
    refund_ids: tuple[int, ...] = ()
    """Refunds of the order to be asked for with it: what answers, answers for them as well."""


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

    What is known already keeps its time and its attempts, and takes the later of both promises.
    """
    wanted = join(wanted)
    await pool.execute(
        sql("refetches.postpone"),
        [one.tid for one in wanted],
        [one.seller_id for one in wanted],
        [one.event for one in wanted],
        [one.occurred_at for one in wanted],
        [one.settled_after for one in wanted],
        [one.modified for one in wanted],
        [one.source for one in wanted],
        [one.reason for one in wanted],
        [one.answer for one in wanted],
        wait,
        # Arrays of different lengths do not make an array: each travels as its text.
        [f"{{{','.join(map(str, one.refund_ids))}}}" for one in wanted],
    )


async def forget_answered(pool: Pool) -> None:
    """Forget those due whose order has been stored as promised meanwhile. Idempotent."""
    await pool.execute(sql("refetches.forget_answered"))


async def due(pool: Pool, *, limit: int) -> list[Refetch]:
    """Those to be asked for now, of sellers that have a session; the longest waiting first."""
    found = await pool.fetch(sql("refetches.due"), limit)
    return [Refetch(**{**row, "refund_ids": tuple(row["refund_ids"])}) for row in found]


async def asked(pool: Pool, waits: Mapping[int, timedelta]) -> None:
    """Note that these orders were asked for, and how long each waits until the next time."""
    await pool.execute(sql("refetches.asked"), list(waits.keys()), list(waits.values()))


async def forget(pool: Pool, tids: Iterable[int]) -> None:
    """Give these up. Idempotent."""
    await pool.execute(sql("refetches.forget"), list(tids))


async def count(pool: Pool) -> int:
    """How many wait."""
    return int(await pool.fetchval(sql("refetches.count")))
