"""What the tables know of an order, without what is in it: read together, for people who ask about it.

Times are platform time (UTC instants) where nothing else is said. Words, such as reasons and sources, are as
they are stored: a row may be another release's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Protocol

import asyncpg
import orjson

from topsync.model.kind import Kind
from topsync.model.refetch import OrderPart
from topsync.store import refetches
from topsync.store.database import Pool
from topsync.store.version_tables import sql_over

MOST_WINDOWS: Final = 5
MOST_GAPS: Final = 10


@dataclass(frozen=True, slots=True)
class StoredRow:
    """The newest version of the order, or of a part of it, as the table has it."""

    kind: Kind
    id: int
    seller_id: int
    created: datetime | None
    modified: datetime
    status: str
    fetched_at: datetime
    """When the last fetch began that brought this version, or found it still current."""
    source: str
    revision: int
    published_revision: int
    transitions: tuple[str, ...]
    """What the version brought beside the version before, or beside the last version that was published."""
    changed: tuple[str, ...]
    """Names of the fields that differ."""
    status_from: str | None

    @property
    def is_published(self) -> bool:
        """Whether the topic has it."""
        return self.published_revision >= self.revision


@dataclass(frozen=True, slots=True)
class OrderWait:
    """Why and until when the order waits (`refetches`)."""

    seller_id: int
    event: str
    occurred_at: datetime
    settled_after: datetime
    modified: datetime | None
    source: str
    reason: str
    attempts: int
    due_at: datetime
    """The database's clock."""
    parts: tuple[OrderPart, ...]
    parked: bool


@dataclass(frozen=True, slots=True)
class TaskOfOrder:
    """The task that asks the platform for the order with others."""

    task_id: int | None
    """The platform's number; None: it is not requested, or nobody knows whether it is."""
    asked_at: datetime
    failures: int
    noted_at: datetime
    """The database's clock."""
    looked_at: datetime
    """Likewise."""


@dataclass(frozen=True, slots=True)
class NotedDeadLetter:
    """A dead letter that nobody has dealt with."""

    kind: str
    id: int
    reason: str
    event_id: str
    seller_id: int | None
    noted_at: datetime
    """The database's clock."""


@dataclass(frozen=True, slots=True)
class NotedTombstone:
    """What is erased, and the topic may not say yet."""

    kind: str
    id: int
    seller_id: int
    revision: int
    erased_at: datetime


@dataclass(frozen=True, slots=True)
class ExportedRow:
    """The order's line in its seller's bulk export."""

    modified: datetime | None
    """None: only its id could be read."""
    task_id: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CoveringWindow:
    """A pulled window that holds the moment of the order's last change, and was pulled after it."""

    start: datetime
    end: datetime
    source: str
    reason: str | None
    pulled_at: datetime
    listed: int
    hinted: int
    proven_to: datetime | None


@dataclass(frozen=True, slots=True)
class CoveringDay:
    """The sum of a day's windows that are not kept one by one any more, of one source.

    Together they hold the moment of the order's last change, and the last was pulled after it.
    """

    day: date
    """Of the platform, on which they were pulled."""
    source: str
    windows: int
    listed: int
    hinted: int
    first_pulled_at: datetime
    last_pulled_at: datetime
    start: datetime
    """From here to the end, they listed everything; the change lies between."""
    end: datetime
    proves: bool
    """Whether they proved the moment of the change."""


@dataclass(frozen=True, slots=True)
class SellerGap:
    """A span in which push could not be trusted for the order's seller."""

    began: datetime
    ended: datetime | None
    cause: str
    opened_at: datetime
    pulled_at: datetime | None
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class RepublishedAgain:
    """A republication that includes the order. Times are the database's clock."""

    id: str
    requested_at: datetime
    finished_at: datetime | None
    cancelled_at: datetime | None
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartitionOwner:
    """The process that writes the order."""

    owner: str
    taken_at: datetime
    """The database's clock."""


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """What the tables know of an order by its id."""

    order: StoredRow | None = None
    parts: tuple[StoredRow, ...] = ()
    wait: OrderWait | None = None
    task: TaskOfOrder | None = None
    letters: tuple[NotedDeadLetter, ...] = ()
    """The open dead letters."""
    tombstones: tuple[NotedTombstone, ...] = ()
    findings: tuple[str, ...] = ()
    """Of the witness."""
    owner: PartitionOwner | None = None

    @property
    def seller_id(self) -> int | None:
        """Whose order it is, as the tables say."""
        named = [
            *(row.seller_id for row in (self.order, *self.parts, self.wait) if row is not None),
            *(tombstone.seller_id for tombstone in self.tombstones),
            *(letter.seller_id for letter in self.letters if letter.seller_id is not None),
        ]
        return named[0] if named else None


@dataclass(frozen=True, slots=True)
class AroundOrder:
    """What the tables know of the order's seller, as far as it concerns the order."""

    exported: ExportedRow | None = None
    windows: tuple[CoveringWindow, ...] = ()
    window_days: tuple[CoveringDay, ...] = ()
    """What became of windows that are too old to be kept."""
    gaps: tuple[SellerGap, ...] = ()
    """The open gaps first, then the latest."""
    republications: tuple[RepublishedAgain, ...] = ()
    """The latest first."""


async def of_order(pool: Pool, tid: int, *, partition: int) -> OrderFacts:
    """What the tables say of an order; `partition` is the order's in `changes`."""
    async with _looking(pool) as look:
        order = await look("order", tid)
        waits = await look("wait", tid)
        tasks = await look("task", tid)
        owners = await look("owner", partition)
        return OrderFacts(
            order=_stored(order[0]) if order else None,
            parts=tuple(map(_stored, await look("parts", tid))),
            wait=_wait(waits[0]) if waits else None,
            task=TaskOfOrder(*tasks[0]) if tasks else None,
            letters=tuple(NotedDeadLetter(*row) for row in await look("open_letters", tid)),
            tombstones=tuple(NotedTombstone(*row) for row in await look("tombstones", tid)),
            findings=tuple(row["finding"] for row in await look("findings", tid)),
            owner=PartitionOwner(*owners[0]) if owners else None,
        )


async def around(
    pool: Pool, tid: int, seller_id: int, *, modified: datetime | None, since: datetime
) -> AroundOrder:
    """What the tables say of an order's seller that concerns the order.

    `modified` is the order's last change, where that is known. What is over is left out where it began before
    `since`.
    """
    async with _looking(pool) as look:
        exported = await look("exported", tid, seller_id)
        windows = [] if modified is None else await look("windows", seller_id, modified, MOST_WINDOWS)
        days = [] if modified is None else await look("window_days", seller_id, modified, MOST_WINDOWS)
        republished = await look("republications", tid, seller_id, since)
        return AroundOrder(
            exported=ExportedRow(*exported[0]) if exported else None,
            windows=tuple(CoveringWindow(*row) for row in windows),
            window_days=tuple(CoveringDay(*row) for row in days),
            gaps=tuple(SellerGap(*row) for row in await look("gaps", seller_id, since, MOST_GAPS)),
            republications=tuple(
                RepublishedAgain(**{**row, "topics": tuple(row["topics"])}) for row in republished
            ),
        )


class _Look(Protocol):
    async def __call__(self, verb: str, *arguments: object) -> list[asyncpg.Record]: ...


@asynccontextmanager
async def _looking(pool: Pool) -> AsyncIterator[_Look]:
    """Statements by their verbs, all of which see the tables as of the same moment."""

    async def look(verb: str, *arguments: object) -> list[asyncpg.Record]:
        return await connection.fetch(sql_over(f"order_facts.{verb}"), *arguments)

    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield look


def _wait(row: asyncpg.Record) -> OrderWait:
    return OrderWait(**{**row, "parts": refetches.read_parts(row["parts"])})


def _stored(row: asyncpg.Record) -> StoredRow:
    step: Mapping[str, Any] = orjson.loads(row["step"])
    return StoredRow(
        kind=Kind(row["kind"]),
        id=row["id"],
        seller_id=row["seller_id"],
        created=row.get("created"),
        modified=row["modified"],
        status=row["status"],
        fetched_at=row["fetched_at"],
        source=row["source"],
        revision=row["revision"],
        published_revision=row["published_revision"],
        transitions=tuple(map(str, step.get("transitions") or ())),
        changed=tuple(map(str, step.get("changed") or ())),
        status_from=step.get("status_from"),
    )
