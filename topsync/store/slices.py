"""The slices of bulk starts: how far each is, and which objects it holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final

import asyncpg

from topsync.model.kind import Kind
from topsync.model.slice import Balance, LoadCounts, Slice, SliceState, SliceTask, Way
from topsync.store.database import Connection, Pool, sql
from topsync.store.sellers import ErasedError
from topsync.store.version_tables import sql_over

ROWS_AT_ONCE: Final = 10_000
"""Rows that a statement deletes, or the server sends at a time."""

COUNTED_AT_ONCE: Final = 5000
"""Rows that a statement looks at."""

LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""For slices without a task: whatever is stored of an object is new enough."""


@dataclass(frozen=True, slots=True)
class SliceRow:
    """An object that a slice holds."""

    id: int
    order_id: int
    modified: datetime | None
    """None where only the id could be read."""


def _read(row: asyncpg.Record) -> Slice:
    task = balance = None
    if row["task_id"] is not None:
        task = SliceTask(
            row["task_id"], row["created_at"], row["adopted"], row["check_code"], row["file_bytes"]
        )
    if row["objects"] is not None:
        balance = Balance(row["objects"], row["counted"], row["counted_at"], row["missing"], row["unlisted"])
    return Slice(
        seller_id=row["seller_id"],
        number=row["number"],
        kind=Kind(row["kind"]),
        way=Way(row["way"]),
        first_day=row["first_day"],
        last_day=row["last_day"],
        state=SliceState(row["state"]),
        expected=row["expected"],
        failed_tasks=row["failed_tasks"],
        task=task,
        counts=LoadCounts(row["lines"], row["published"], row["repaired"], row["refused"]),
        balance=balance,
        failure=row["failure"],
    )


async def of_seller(pool: Pool, seller_id: int) -> list[Slice]:
    """The slices of a seller's bulk start: by kind, the oldest days first."""
    return [_read(row) for row in await pool.fetch(sql("slices.of_seller"), seller_id)]


async def of_all(pool: Pool) -> Mapping[int, list[Slice]]:
    """The slices of all bulk starts that are under way, by seller."""
    found: dict[int, list[Slice]] = {}
    for row in await pool.fetch(sql("slices.of_all")):
        found.setdefault(row["seller_id"], []).append(_read(row))
    return found


async def get(pool: Pool, of: Slice) -> Slice:
    """A slice as it stands now.

    Raises:
        ErasedError: the seller has been erased.
    """
    row = await pool.fetchrow(sql("slices.get"), of.seller_id, of.number)
    if row is None:
        raise _erased(of)
    return _read(row)


async def tasks(pool: Pool) -> set[int]:
    """The platform's tasks of all slices, of every seller."""
    return {row["task_id"] for row in await pool.fetch(sql("slices.tasks"))}


async def add(connection: Connection, planned: Sequence[Slice]) -> None:
    """Write new slices, of one seller."""
    if planned:
        await connection.execute(
            sql("slices.add"),
            planned[0].seller_id,
            [each.number for each in planned],
            [each.kind.value for each in planned],
            [each.way.value for each in planned],
            [each.first_day for each in planned],
            [each.last_day for each in planned],
            [each.expected for each in planned],
            [each.failed_tasks for each in planned],
        )


async def replace_all(connection: Connection, seller_id: int, planned: Sequence[Slice]) -> None:
    """Put these slices in the place of all that the seller has; their rows must have gone before.

    How many tasks failed is kept where a slice has the same days again: the platform answers the words of a
    failed task with that task, for as long as it keeps it, and a new bulk start must not go through all of
    them again.
    """
    rows = await connection.fetch(sql("slices.failed_tasks"), seller_id)
    failed = {(Kind(row["kind"]), row["first_day"], row["last_day"]): row["failed_tasks"] for row in rows}
    await connection.execute(sql("slices.remove"), seller_id, None)
    await add(
        connection,
        [
            replace(each, failed_tasks=failed.get((each.kind, each.first_day, each.last_day), 0))
            for each in planned
        ],
    )


async def replace_unloaded(connection: Connection, seller_id: int, listed: Sequence[Slice]) -> None:
    """Put these slices, all of one kind, in the place of those of this kind that are not loaded."""
    if not listed:
        return
    await connection.execute(sql("slices.remove_unloaded_rows"), seller_id, listed[0].kind.value)
    await connection.execute(sql("slices.remove"), seller_id, listed[0].kind.value)
    highest = await connection.fetchval(sql("slices.highest_number"), seller_id)
    first = 0 if highest is None else highest + 1
    await add(connection, [replace(each, number=first + place) for place, each in enumerate(listed)])


async def remove_rows(pool: Pool, seller_id: int) -> None:
    """Forget which objects the slices of a former bulk start held; some at a time. Idempotent."""
    while await pool.execute(sql("slices.remove_rows"), seller_id, ROWS_AT_ONCE) != "DELETE 0":
        pass


async def drop(pool: Pool, of: Slice) -> None:
    """Forget a slice, and what it held. Idempotent."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(sql("slices.clear_rows"), of.seller_id, of.number)
        await connection.execute(sql("slices.drop"), of.seller_id, of.number)


async def requested(
    pool: Pool, of: Slice, *, task_id: int, created_at: datetime, created_on: date, adopted: bool
) -> None:
    """Note the platform's task; a task of an earlier day moves day zero back.

    Raises:
        ErasedError: the seller has been erased.
    """
    async with pool.acquire() as connection, connection.transaction():
        tag = await connection.execute(
            sql("slices.requested"), of.seller_id, of.number, task_id, created_at, adopted
        )
        _require(tag, of)
        await connection.execute(sql("bootstraps.move_day_zero"), of.seller_id, created_on)


async def move_first_day(pool: Pool, of: Slice, first_day: date) -> None:
    """Leave out the days before this, which the platform no longer gives.

    Raises:
        ErasedError: the seller has been erased.
    """
    _require(await pool.execute(sql("slices.move_first_day"), of.seller_id, of.number, first_day), of)


async def set_state(pool: Pool, of: Slice, state: SliceState) -> None:
    """Note how far a slice is, where nothing else is to be noted. WAITING: it is asked for anew.

    Raises:
        ErasedError: the seller has been erased.
    """
    _require(await pool.execute(sql("slices.set_state"), of.seller_id, of.number, state.value), of)


async def task_failed(pool: Pool, of: Slice) -> None:
    """Forget a task that came to nothing, and count it: the next request is worded otherwise.

    Raises:
        ErasedError: the seller has been erased.
    """
    _require(await pool.execute(sql("slices.task_failed"), of.seller_id, of.number), of)


async def downloaded(pool: Pool, of: Slice, *, check_code: str | None, file_bytes: int) -> None:
    """Note that the file is here and verified, and nothing of it loaded; or that there is none.

    Raises:
        ErasedError: the seller has been erased.
    """
    async with pool.acquire() as connection, connection.transaction():
        tag = await connection.execute(
            sql("slices.downloaded"), of.seller_id, of.number, check_code, file_bytes
        )
        _require(tag, of)
        await connection.execute(sql("slices.clear_rows"), of.seller_id, of.number)


async def add_rows(pool: Pool, of: Slice, rows: Sequence[SliceRow], before: LoadCounts) -> None:
    """Note which objects come next, and what was handed over before them. Idempotent.

    Raises:
        ErasedError: the seller has been erased.
    """
    newest: dict[int, SliceRow] = {}
    for row in rows:
        known = newest.get(row.id)
        if known is None or _is_newer(row.modified, known.modified):
            newest[row.id] = row
    leads = of.kind.leads
    found = await pool.fetchval(
        sql("slices.add_rows"),
        of.seller_id,
        of.number,
        list(newest),
        [None if leads else row.order_id for row in newest.values()],
        [row.modified for row in newest.values()],
        before.lines,
        before.published,
        before.repaired,
        before.refused,
    )
    if not found:
        raise _erased(of)


async def add_missing(pool: Pool, of: Slice, rows: Sequence[SliceRow]) -> None:
    """Note objects that a slice's file lacks, and how many they are; together, as they count once.

    Raises:
        ErasedError: the seller has been erased.
    """
    found = await pool.fetchval(
        sql("slices.add_missing"),
        of.seller_id,
        of.number,
        [row.id for row in rows],
        [None if of.kind.leads else row.order_id for row in rows],
        [row.modified for row in rows],
    )
    if not found:
        raise _erased(of)


async def count_by_day(pool: Pool, of: Slice) -> dict[date, int]:
    """How many objects a slice holds of each day of the platform, by `modified`; where that is known."""
    rows = await pool.fetch(sql("slices.count_by_day"), of.seller_id, of.number)
    return {row["day"]: row["objects"] for row in rows}


async def count_missing(pool: Pool, of: Slice) -> int:
    """How many objects were noted that the slice's file lacks."""
    return int(await pool.fetchval(sql("slices.count_missing"), of.seller_id, of.number) or 0)


async def begin_listing(pool: Pool, of: Slice) -> None:
    """Forget what a former run has listed of a slice, and failed on: it is listed from its start.

    Raises:
        ErasedError: the seller has been erased.
    """
    async with pool.acquire() as connection, connection.transaction():
        _require(await connection.execute(sql("slices.begin_listing"), of.seller_id, of.number), of)
        await connection.execute(sql("slices.clear_rows"), of.seller_id, of.number)


async def loaded(pool: Pool, of: Slice, counts: LoadCounts) -> None:
    """Note that all of a slice has been handed over.

    Raises:
        ErasedError: the seller has been erased.
    """
    tag = await pool.execute(
        sql("slices.loaded"),
        of.seller_id,
        of.number,
        counts.lines,
        counts.published,
        counts.repaired,
        counts.refused,
    )
    _require(tag, of)


async def stored(pool: Pool, of: Slice, balance: Balance) -> None:
    """Note that all of a slice is stored and published.

    Raises:
        ErasedError: the seller has been erased.
    """
    tag = await pool.execute(
        sql("slices.stored"),
        of.seller_id,
        of.number,
        balance.objects,
        balance.counted,
        balance.counted_at,
        balance.missing,
        balance.unlisted,
    )
    _require(tag, of)


async def failed(pool: Pool, of: Slice, failure: str) -> None:
    """Note what a slice failed on, for people. Whether the seller has been erased does not matter."""
    await pool.execute(sql("slices.failed"), of.seller_id, of.number, failure)


async def count_rows(pool: Pool, of: Slice) -> int:
    """How many distinct objects a slice holds."""
    return int(await pool.fetchval(sql("slices.count_rows"), of.seller_id, of.number))


async def known(pool: Pool, of: Slice, ids: Collection[int]) -> set[int]:
    """Which of these objects a slice holds."""
    rows = await pool.fetch(sql("slices.known"), of.seller_id, of.number, list(ids))
    return {row["id"] for row in rows}


async def count_unstored(pool: Pool, of: Slice) -> int:
    """How many of a slice's objects still have to be stored and published. Looks at each of its rows."""
    after, unstored = 0, 0
    while True:
        row = await _next_rows(pool, of, after, at_once=COUNTED_AT_ONCE, some=0)
        if row["last"] is None:
            return unstored
        after, unstored = row["last"], unstored + row["unstored"]


async def unstored(pool: Pool, of: Slice, *, at_most: int) -> list[SliceRow]:
    """Some of these objects, the lowest ids first."""
    after, ids = 0, list[int]()
    while len(ids) < at_most:
        row = await _next_rows(pool, of, after, at_once=COUNTED_AT_ONCE, some=at_most - len(ids))
        if row["last"] is None:
            break
        after = row["last"]
        ids += row["some"] or ()
    rows = await pool.fetch(sql("slices.rows_of"), of.seller_id, of.number, ids)
    return [SliceRow(row["id"], row["order_id"], row["modified"]) for row in rows]


async def first_unstored(pool: Pool, of: Slice, *, after: int, at_once: int = 1000) -> int | None:
    """Up to which id all of a slice's objects are stored and published, as far as is easily seen; None: all.

    Looks at those beyond `after` alone, a few at a time, and no further than to the first few of which some
    are not.
    """
    while True:
        row = await _next_rows(pool, of, after, at_once=at_once, some=0)
        if row["last"] is None:
            return None
        if row["unstored"]:
            return after
        after = row["last"]


async def _next_rows(pool: Pool, of: Slice, after: int, *, at_once: int, some: int) -> asyncpg.Record:
    row = await pool.fetchrow(
        sql_over("slices.next_rows"),
        of.seller_id,
        of.number,
        _not_older_than(of),
        of.kind.value,
        after,
        at_once,
        some,
    )
    assert row is not None
    return row


async def unread(pool: Pool, of: Slice) -> list[tuple[SliceRow, bool]]:
    """Those of a slice of which only the id could be read, and whether each is stored since; by id."""
    rows = await pool.fetch(
        sql_over("slices.unread"), of.seller_id, of.number, _not_older_than(of), of.kind.value
    )
    return [(SliceRow(row["id"], row["order_id"], row["modified"]), row["is_stored"]) for row in rows]


def _is_newer(modified: datetime | None, known: datetime | None) -> bool:
    return modified is not None and (known is None or modified > known)


def _not_older_than(of: Slice) -> datetime:
    """A state fetched before this is no answer to a line of which only the id could be read."""
    return LONG_AGO if of.task is None else of.task.created_at


def _require(tag: str, of: Slice) -> None:
    if tag != "UPDATE 1":
        raise _erased(of)


def _erased(of: Slice) -> ErasedError:
    return ErasedError(f"seller {of.seller_id} has been erased: there is nothing to start")
