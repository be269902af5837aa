"""Bulk starts with all that a certificate can hold, and the rows of their slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Final

from schemas import platform_time
from schemas.certificate import PushPart, WindowPart
from topsync.model.certificate import CertifiedStart
from topsync.model.kind import Kind
from topsync.model.row_digest import NumberedRow, RowDigest, RowSums
from topsync.model.scheme import Scheme
from topsync.model.slice import Balance, LoadCounts, Slice, SliceState, SliceTask, Way
from topsync.store.database import Pool

SELLER: Final = 2200000000001
TID: Final = 4000000000000000100
REFUND_ID: Final = 180000000000000100
ZERO: Final = date(2025, 11, 20)
MIDNIGHT: Final = platform_time.start_of(ZERO)
STARTED: Final = MIDNIGHT + timedelta(hours=9)
CERTIFIED: Final = MIDNIGHT + timedelta(hours=11)
SEAM: Final = MIDNIGHT - timedelta(minutes=10)

ROWS: Final[Mapping[Kind, Sequence[NumberedRow]]] = {
    Kind.ORDER: [
        NumberedRow(0, TID, MIDNIGHT - timedelta(days=5)),
        NumberedRow(2, TID + 1, MIDNIGHT - timedelta(days=2, seconds=-0.5)),
        NumberedRow(0, TID + 2, None),
        NumberedRow(2, TID + 2, MIDNIGHT - timedelta(days=1)),
        NumberedRow(0, TID + 3, MIDNIGHT - timedelta(days=4)),
    ],
    Kind.REFUND: [
        NumberedRow(4, REFUND_ID, MIDNIGHT - timedelta(days=1)),
        NumberedRow(4, REFUND_ID + 1, None),
    ],
}
"""By id. An order is in two slices, first without its `modified`."""


def days_before(days: int) -> date:
    return ZERO - timedelta(days=days)


def digest(number: int) -> str:
    found = RowDigest()
    for row in (row for rows in ROWS.values() for row in rows if row.slice == number):
        found.add(row.id, row.modified)
    return found.hexdigest()


def sums(kind: Kind) -> RowSums:
    added = RowSums()
    added.add(ROWS[kind])
    added.finish()
    return added


def sliced(number: int, kind: Kind, first: int, last: int, **fields: object) -> Slice:
    """A slice from so many days before day zero to so many."""
    way = Way.EXPORT if kind.leads else Way.LIST
    made = Slice(SELLER, number, kind, way, days_before(first), days_before(last), SliceState.STORED)
    return replace(made, digest=digest(number), **fields)  # type: ignore[arg-type]


def task(number: int, *, adopted: bool = False, file: bool = True) -> SliceTask:
    created = STARTED + timedelta(minutes=number + 1)
    return SliceTask(9_000 + number, created, adopted, "A1" * 16 if file else None, 1234 if file else 0)


SLICES: Final = (
    sliced(
        0, Kind.ORDER, 9, 5, expected=3, task=task(0), counts=LoadCounts(3, 2, 1, 0),
        balance=Balance(3, 2, STARTED + timedelta(minutes=20), 1, 1),
    ),
    sliced(
        1, Kind.ORDER, 4, 4, expected=0, task=task(1, file=False),
        balance=Balance(0, 0, STARTED + timedelta(minutes=20)),
    ),
    sliced(
        2, Kind.ORDER, 3, 1, task=task(2, adopted=True), counts=LoadCounts(2, 2, 0, 0), balance=Balance(2)
    ),
    sliced(3, Kind.REFUND, 9, 2, balance=Balance(0)),
    sliced(4, Kind.REFUND, 1, 1, counts=LoadCounts(2, 0, 2, 0), balance=Balance(2)),
)  # fmt: skip


def window(kind: str, start: datetime, end: datetime, listed: int, proven_to: datetime | None) -> WindowPart:
    return WindowPart.model_validate(
        {
            "kind": kind,
            "start": start,
            "end": end,
            "listed": listed,
            "hinted": listed - 1,
            "proven_to": proven_to,
            "pulled_at": CERTIFIED - timedelta(minutes=2),
        }
    )


NOON: Final = MIDNIGHT + timedelta(hours=12)
PROVEN: Final = CERTIFIED - timedelta(minutes=12)
WINDOWS: Final = (
    window("order", SEAM, MIDNIGHT + timedelta(hours=1), 7, MIDNIGHT + timedelta(hours=1)),
    window("order", MIDNIGHT + timedelta(hours=1), NOON, 5, PROVEN),
    window("refund", SEAM, NOON, 2, PROVEN),
)

START: Final = CertifiedStart(
    seller_id=SELLER,
    scheme=Scheme.THREE,
    first_day=days_before(9),
    day_zero=ZERO,
    started_at=STARTED,
    slices=SLICES,
    sums={kind: sums(kind) for kind in Kind},
    seam=SEAM,
    proven_to=PROVEN,
    windows=WINDOWS,
    certified_at=CERTIFIED,
    code="0.1.0",
    schema_number=26,
    push=PushPart(connected_at=STARTED - timedelta(days=1), last_proof_at=CERTIFIED - timedelta(seconds=3)),
)
"""By exports, in which a file is missing because nothing happened, and a task is adopted."""

LISTED: Final = replace(
    START,
    scheme=Scheme.AUTO,
    slices=[
        replace(each, way=Way.LIST, task=None, counts=LoadCounts(each.counts.lines, 0, each.counts.lines, 0))
        for each in SLICES
    ],
    listed_because="本应用没有 topats 的权限: isv.permission-api-package-limit",
)
"""By lists, because the platform refused the export; its words are not ASCII."""

OLDER_TASK: Final = replace(
    START,
    day_zero=days_before(1),
    slices=[
        replace(each, task=replace(each.task, created_at=STARTED - timedelta(days=1)))
        if each.task is not None and each.task.adopted
        else each
        for each in SLICES
    ],
    seam=SEAM - timedelta(days=1),
    windows=[
        *(window(kind.value, SEAM - timedelta(days=1), SEAM, 3, SEAM) for kind in Kind),
        *WINDOWS,
    ],
)
"""An adopted task of the day before, which moves day zero back."""


async def keep_rows(pool: Pool) -> None:
    """Note the slices' rows as a bulk start does."""
    await pool.executemany(
        "insert into slice_rows (seller_id, slice, id, order_id, modified) values ($1, $2, $3, $3, $4)",
        [(SELLER, *row) for rows in ROWS.values() for row in rows],
    )
