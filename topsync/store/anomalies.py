"""Anomalies as all processes know them, and what they are judged by.

Times are the database clock's, but for those of orders, which are the platform's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg

from topsync.model.anomaly import LASTS, NOTIFIED_EVERY, OTHERS, Anomaly, AnomalyKind, FoundAnomaly, Sightings
from topsync.model.difference import DifferenceKind
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.model.usual import AnswerHour
from topsync.store.database import Pool, sql

MOST_NAMES: Final = 500
"""Names of a kind that are kept apart; some more, where several processes write at once."""

MOST_LASTING: Final = 5000
"""That are read at once: more than there are shops, codes, fields and types that somebody would look at."""

SELLERS_AT_ONCE: Final = 200
"""Sellers whose orders one statement counts: it takes some milliseconds."""


class ShopPresent(NamedTuple):
    """A shop's orders of a window."""

    orders: int
    by_messages: int
    first_order: datetime | None
    """When the first of all its orders was placed."""


@dataclass(frozen=True, slots=True)
class TypeLeftOut:
    """Orders that lists leave out, by the same note of a comparison."""

    note: str
    orders: int
    tid: int
    at: datetime
    """When the last of these comparisons began; platform time."""


@dataclass(frozen=True, slots=True)
class DecidedNotice:
    """A notification that was decided, and that Kafka may not have yet."""

    kind: str
    id: str
    body: str
    """Its JSON."""
    decided_at: datetime


async def sight(pool: Pool, sightings: Sightings) -> None:
    """Add what a process has seen, all of it or nothing. Not idempotent: who repeats it may count twice."""
    async with pool.acquire() as connection, connection.transaction():
        if sightings.seen:
            rows = sorted(
                (kind.value, name, seen.count, seen.seller_id, seen.tid)
                for (kind, name), seen in sightings.seen.items()
            )
            columns = map(list, zip(*rows, strict=True))
            await connection.execute(sql("anomalies.sight"), *columns, MOST_NAMES, OTHERS)
        if sightings.details:
            await connection.execute(sql("anomalies.count_details"), sightings.details, sightings.behind)


async def find(pool: Pool, found: Sequence[FoundAnomaly]) -> None:
    """Write what a judge has found, each kind and name once. Idempotent."""
    if not found:
        return
    columns = zip(
        *(
            (f.kind.value, f.name, f.seller_id, f.tid, f.seen, f.among, f.expected, f.deviation, f.at)
            for f in found
        ),
        strict=True,
    )
    judged = [kind.value for kind in AnomalyKind if kind.is_judged]
    await pool.execute(sql("anomalies.find"), *map(list, columns), judged)


async def end(pool: Pool, kind: AnomalyKind, *, but: Collection[str]) -> None:
    """End what is judged of a kind, but for these names. Idempotent."""
    await pool.execute(sql("anomalies.end_judged"), kind.value, list(but))


async def clean(pool: Pool) -> None:
    """End what was not seen for long, and forget what is of erased sellers. Idempotent."""
    await pool.execute(sql("anomalies.end_old"), [kind.value for kind in LASTS], list(LASTS.values()))
    await pool.execute(sql("anomalies.forget_erased"))


async def lasting(pool: Pool, seller_id: int | None = None) -> list[Anomaly]:
    """The anomalies that last, or those of a seller, by kind, the oldest first; `MOST_LASTING` at most."""
    return _read(await pool.fetch(sql("anomalies.lasting"), seller_id, MOST_LASTING))


async def untold(pool: Pool) -> list[Anomaly]:
    """Those of them that nobody was notified of."""
    return _read(await pool.fetch(sql("anomalies.untold"), MOST_LASTING))


def _read(rows: Sequence[asyncpg.Record]) -> list[Anomaly]:
    """Those of kinds that this release knows."""
    known = {kind.value: kind for kind in AnomalyKind}
    return [Anomaly(known[word], *rest) for word, *rest in rows if word in known]


async def decide(
    pool: Pool,
    kind: AnomalyKind,
    names: Collection[str],
    *,
    id: str,  # noqa: A002
    body: str,
) -> bool:
    """Decide to notify a kind of these names.

    False where it was notified within the hour, or is about to be.
    """
    decided: bool = await pool.fetchval(
        sql("anomalies.decide"), kind.value, id, body, NOTIFIED_EVERY, list(names)
    )
    return decided


async def pending(pool: Pool) -> list[DecidedNotice]:
    """What was decided, and is not known to be in Kafka."""
    return [DecidedNotice(*row) for row in await pool.fetch(sql("anomalies.pending"))]


async def published(pool: Pool, notice: DecidedNotice) -> None:
    """Note that Kafka has a notification. Idempotent."""
    await pool.execute(sql("anomalies.published"), notice.kind, notice.id)


async def present(pool: Pool, sellers: Sequence[int], window: Span) -> dict[int, ShopPresent]:
    """The orders of these sellers that were placed in a window."""
    found: dict[int, ShopPresent] = {}
    for at in range(0, len(sellers), SELLERS_AT_ONCE):
        some = list(sellers[at : at + SELLERS_AT_ONCE])
        for row in await pool.fetch(sql("anomalies.present"), some, window.start, window.end):
            found[row["seller_id"]] = ShopPresent(row["orders"], row["by_messages"], row["first_order"])
    return found


async def earlier(pool: Pool, sellers: Sequence[int], windows: Sequence[Span]) -> dict[int, list[int]]:
    """How many orders of these sellers were placed in each of these windows."""
    found: dict[int, list[int]] = {}
    began, ended = [each.start for each in windows], [each.end for each in windows]
    for at in range(0, len(sellers), SELLERS_AT_ONCE):
        some = list(sellers[at : at + SELLERS_AT_ONCE])
        for seller_id, number, count in await pool.fetch(sql("anomalies.earlier"), some, began, ended):
            found.setdefault(seller_id, [0] * len(windows))[number - 1] = count
    return found


async def detail_hours(pool: Pool, hours: Collection[datetime]) -> Mapping[datetime, AnswerHour]:
    """Answers with an object in full, of these hours, by their beginning."""
    rows = await pool.fetch(sql("anomalies.detail_hours"), list(hours))
    return {row["hour"]: AnswerHour(*row) for row in rows}


async def unlisted(pool: Pool, *, since: datetime) -> list[TypeLeftOut]:
    """What comparisons since then say of orders that the platform shows and its lists leave out.

    `since` is platform time.
    """
    rows = await pool.fetch(sql("anomalies.unlisted"), since, Kind.ORDER.value, DifferenceKind.UNLISTED.value)
    return [TypeLeftOut(*row) for row in rows]


async def now(pool: Pool) -> datetime:
    """The database's clock."""
    moment: datetime = await pool.fetchval(sql("anomalies.now"))
    return moment
