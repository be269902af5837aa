"""The comparison with the platform: how far it is, and its reports. Times and nights are the platform's.

Nothing is written of an erased seller.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import asyncpg

from topsync.model.difference import Difference, DifferenceKind, DifferenceOutcome
from topsync.model.kind import Kind
from topsync.store.database import Pool, sql


@dataclass(frozen=True, slots=True)
class DayProgress:
    """How far the comparison of a day of a seller is. Dates are nights."""

    since: date
    """The first night in which it was compared."""
    counted_on: date
    """The last night in which it was compared to its end."""
    listed_on: date | None
    """The last night in which its ids were."""
    unlisted: int
    """How many of ours the platform's list left out then, each of them named in a report: the counts agree
    when they differ by so many."""


@dataclass(frozen=True, slots=True)
class NightsOf:
    """The nights that a seller's days were compared in."""

    last: date
    """The latest of any day."""
    first: date
    """That of the day that was compared longest ago."""


@dataclass(frozen=True, slots=True)
class Report:
    """A comparison, and how far it came. What differed is asked for by itself."""

    id: str
    night: date | None
    """None: an operator's audit."""
    began_at: datetime
    ended_at: datetime | None
    """None: it is under way."""
    days: int
    """How many days of sellers, by kind, were compared; 0 until the end."""
    days_left: int
    """And how many were not."""


@dataclass(frozen=True, slots=True)
class DifferenceCount:
    """How many of a seller's objects differed in the same way."""

    seller_id: int
    kind: Kind
    what: DifferenceKind
    outcome: DifferenceOutcome
    objects: int


@dataclass(frozen=True, slots=True)
class ComparisonFailure:
    """A seller that could not be compared, or not wholly."""

    seller_id: int
    kind: Kind
    reason: str


async def progress(pool: Pool, seller_id: int, kind: Kind) -> dict[date, DayProgress]:
    """How far the days of a seller are that were ever compared."""
    return {
        row["day"]: DayProgress(row["since"], row["counted_on"], row["listed_on"], row["unlisted"])
        for row in await pool.fetch(sql("comparisons.progress"), seller_id, kind.value)
    }


async def nights(pool: Pool) -> dict[int, NightsOf]:
    """The nights that each seller's days were compared in. Reads every day of every seller."""
    return {
        row["seller_id"]: NightsOf(row["last"], row["first"])
        for row in await pool.fetch(sql("comparisons.nights"))
    }


async def compared_on(pool: Pool, night: date) -> dict[tuple[int, Kind], int]:
    """How many days of each seller were compared in a night. Reads every day of every seller."""
    return {
        (row["seller_id"], kind): row["days"]
        for row in await pool.fetch(sql("comparisons.compared_on"), night)
        if (kind := Kind.known(row["kind"])) is not None
    }


async def note_day(
    pool: Pool, seller_id: int, kind: Kind, day: date, *, night: date, unlisted: int | None
) -> None:
    """Note that a day was compared to its end; `unlisted` is None where only its count was. Idempotent."""
    await pool.execute(
        sql("comparisons.note_day"),
        seller_id,
        kind.value,
        day,
        night,
        unlisted is not None,
        unlisted or 0,
    )


async def forget_days(pool: Pool, before: date) -> None:
    """Forget the days that the platform no longer lists."""
    await pool.execute(sql("comparisons.forget_days"), before)


async def begin(pool: Pool, id: str, *, night: date | None, at: datetime) -> Report:  # noqa: A002
    """Begin a report, or go on with the one of this id."""
    await pool.execute(sql("comparisons.begin"), id, night, at)
    found = await get(pool, id)
    assert found is not None, "it has just been written, and no statement of ours deletes it meanwhile"
    return found


async def get(pool: Pool, id: str) -> Report | None:  # noqa: A002 -- the column's name
    """A report by its id."""
    row = await pool.fetchrow(sql("comparisons.get"), id)
    return Report(*row) if row else None


async def newest(pool: Pool, limit: int) -> list[Report]:
    """The newest reports, the newest first."""
    return [Report(*row) for row in await pool.fetch(sql("comparisons.newest"), limit)]


async def nights_under_way(pool: Pool) -> list[Report]:
    """The reports of nights that have no end yet."""
    return [Report(*row) for row in await pool.fetch(sql("comparisons.nights_under_way"))]


async def finish(pool: Pool, id: str, *, at: datetime, days: int, days_left: int) -> bool:  # noqa: A002
    """End a report; what is open in it is left. False where it had ended before."""
    async with pool.acquire() as connection, connection.transaction():
        ended = await connection.execute(sql("comparisons.finish"), id, at, days, days_left) == "UPDATE 1"
        await connection.execute(sql("comparisons.leave_open"), id)
        return ended


async def add(
    pool: Pool, report: str, seller_id: int, kind: Kind, day: date, found: Sequence[Difference]
) -> None:
    """Add differences of a seller's day to a report, in place of what older looks said of the same objects.

    Nothing is added to a report that has ended.
    """
    await pool.execute(
        sql("comparisons.add"),
        report,
        seller_id,
        kind.value,
        day,
        [each.id for each in found],
        [each.tid for each in found],
        [each.what.value for each in found],
        [each.note for each in found],
        [each.outcome.value for each in found],
        [each.looked_at for each in found],
    )


async def settle(
    pool: Pool,
    report: str,
    kind: Kind,
    ids: Collection[int],
    outcome: DifferenceOutcome,
    *,
    looked_at: datetime,
) -> None:
    """Note what has become of differences, but for those at which somebody has looked after `looked_at`.

    Idempotent. Nothing changes in a report that has ended.
    """
    await pool.execute(sql("comparisons.settle"), report, kind.value, list(ids), outcome.value, looked_at)


async def open_of(pool: Pool, report: str, seller_id: int, kind: Kind, day: date) -> list[Difference]:
    """What a report says of a seller's day that is still being repaired."""
    rows = await pool.fetch(sql("comparisons.open"), report, seller_id, kind.value, day)
    return [_difference(row) for row in rows]


async def open_days(pool: Pool, report: str) -> dict[tuple[int, Kind], list[date]]:
    """The days of which something is still being repaired, by seller and kind. Reads all of the report."""
    found: dict[tuple[int, Kind], list[date]] = {}
    for row in await pool.fetch(sql("comparisons.open_days"), report):
        found.setdefault((row["seller_id"], Kind(row["kind"])), []).append(row["day"])
    return found


async def differences(pool: Pool, report: str, *, limit: int) -> list[Difference]:
    """What differed, by seller and day."""
    return [_difference(row) for row in await pool.fetch(sql("comparisons.differences"), report, limit)]


async def counts(pool: Pool, report: str) -> list[DifferenceCount]:
    """How many differed, by seller, kind, and what became of them."""
    return [
        DifferenceCount(
            row["seller_id"],
            Kind(row["kind"]),
            DifferenceKind(row["what"]),
            DifferenceOutcome(row["outcome"]),
            row["objects"],
        )
        for row in await pool.fetch(sql("comparisons.counts"), report)
    ]


async def some_ids(pool: Pool, report: str, seller_id: int, kind: Kind, *, limit: int) -> list[int]:
    """Some of a seller's objects that differed."""
    rows = await pool.fetch(sql("comparisons.some_ids"), report, seller_id, kind.value, limit)
    return [row["id"] for row in rows]


async def fail(pool: Pool, report: str, seller_id: int, kind: Kind, reason: str) -> None:
    """Note why a seller was not compared, in place of a former reason."""
    await pool.execute(sql("comparisons.fail"), report, seller_id, kind.value, reason)


async def clear_failure(pool: Pool, report: str, seller_id: int, kind: Kind) -> None:
    """Note that a seller was compared after all. Idempotent."""
    await pool.execute(sql("comparisons.clear_failure"), report, seller_id, kind.value)


async def failures(pool: Pool, report: str) -> list[ComparisonFailure]:
    """The sellers that were not compared, or not wholly."""
    rows = await pool.fetch(sql("comparisons.failures"), report)
    return [ComparisonFailure(row["seller_id"], Kind(row["kind"]), row["reason"]) for row in rows]


def _difference(row: asyncpg.Record) -> Difference:
    return Difference(
        seller_id=row["seller_id"],
        kind=Kind(row["kind"]),
        id=row["id"],
        tid=row["tid"],
        day=row["day"],
        what=DifferenceKind(row["what"]),
        note=row["note"],
        outcome=DifferenceOutcome(row["outcome"]),
        looked_at=row["looked_at"],
    )
