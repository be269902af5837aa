"""Replays that operators and subscribers ask for: durable requests with a durable outcome.

A job is a row of `replays`. What it has to do is cut into pieces (`topsync.store.replay_pieces`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import asyncpg
import orjson

from topsync.model.span import Span
from topsync.store import replay_pieces
from topsync.store.database import Pool, sql
from topsync.store.replay_pieces import OrdersOfSeller

MOST_AT_ONCE = 100
"""How many cancelled jobs are ended at once."""

SMALL_ORDERS = 200
SMALL_SPAN = timedelta(days=1)
"""A small request names so many orders at most, or a span of a seller that is no longer."""


class ReplayState(StrEnum):
    """The state of a job."""

    REQUESTED = "requested"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


FINISHED = frozenset({ReplayState.DONE, ReplayState.FAILED})


class AskedBy(StrEnum):
    """How a request was made."""

    OPERATOR = "operator"
    """By the command line."""
    SIGNAL = "signal"
    """By a record of the topic `signals`."""


@dataclass(frozen=True, slots=True)
class WantedSpan:
    """Everything that changed in a span."""

    span: Span
    seller_id: int | None
    """None: of all sellers."""


@dataclass(frozen=True, slots=True)
class WantedOrders:
    """Some orders, whoever sold them. Their ids are in the pieces."""

    count: int
    digest: bytes
    """SHA-256 of the ids."""
    named_by: str | None = None
    """What names them, where that is no list: the same request may mean other orders later."""

    def is_same(self, other: WantedOrders) -> bool:
        """Whether the same orders are asked for, or the orders that the same thing names."""
        if self.named_by is not None or other.named_by is not None:
            return self.named_by == other.named_by
        return (self.count, self.digest) == (other.count, other.digest)


@dataclass(frozen=True, slots=True)
class WantedReplay:
    """A request: fetch again what is missing or older here."""

    id: str
    what: WantedSpan | WantedOrders
    dry_run: bool

    @classmethod
    def of_seller(
        cls,
        id: str,  # noqa: A002 -- the column's name
        seller_id: int | None,
        start: datetime,
        end: datetime,
        dry_run: bool,
    ) -> WantedReplay:
        """A span of a seller, or of all."""
        return cls(id, WantedSpan(Span(start, end), seller_id), dry_run)

    @property
    def one_seller(self) -> int | None:
        """The seller of whom a span is wanted; None for any other request."""
        return self.what.seller_id if isinstance(self.what, WantedSpan) else None

    def is_same(self, other: WantedReplay) -> bool:
        """Whether both ask for the same, whatever their ids."""
        if self.dry_run != other.dry_run:
            return False
        if isinstance(self.what, WantedOrders) and isinstance(other.what, WantedOrders):
            return self.what.is_same(other.what)
        return self.what == other.what


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """A request, and what has become of it. Its times, except the span, are the database's clock."""

    wanted: WantedReplay
    asked_by: str | None
    """A value of `AskedBy`, or of a newer version; None when a former version noted the job."""
    state: ReplayState
    requested_at: datetime
    finished_at: datetime | None
    starts: int
    """How often it was begun since its last progress. A run that ends in good order takes its start back."""
    cancelled: bool
    """Whether it is cancelled: it does not begin, or it stops, and its outcome follows."""
    planned: bool
    """Whether its pieces are noted."""
    outcome: Mapping[str, object]
    """What has been found so far, of all pieces together (`reconciler/replay_outcomes.py`)."""

    @property
    def id(self) -> str:
        """The request's id."""
        return self.wanted.id


def _read(row: asyncpg.Record) -> ReplayJob:
    if row["orders"] is None:
        what: WantedSpan | WantedOrders = WantedSpan(Span(row["start"], row["end"]), row["seller_id"])
    else:
        what = WantedOrders(row["orders"], row["digest"], row["named_by"])
    return ReplayJob(
        wanted=WantedReplay(row["id"], what, row["dry_run"]),
        asked_by=row["asked_by"],
        state=ReplayState(row["state"]),
        requested_at=row["requested_at"],
        finished_at=row["finished_at"],
        starts=row["starts"],
        cancelled=row["cancelled"],
        planned=row["planned"],
        outcome=orjson.loads(row["outcome"]) if row["outcome"] is not None else {},
    )


async def request(
    pool: Pool, wanted: WantedReplay, asked_by: AskedBy, *, orders: Sequence[OrdersOfSeller] = ()
) -> ReplayJob | None:
    """Ask for a replay. Returns the job with this id, which another request may have made before.

    `orders` are those that `wanted` speaks of: the job and all of its pieces are noted, or nothing is.

    None when there is no such seller, or the seller is erased. Idempotent.
    """
    async with pool.acquire() as connection, connection.transaction():
        match wanted.what:
            case WantedSpan(span, None):
                await connection.execute(
                    sql("replay_jobs.request_of_all"),
                    wanted.id,
                    span.start,
                    span.end,
                    wanted.dry_run,
                    asked_by,
                )
            case WantedSpan(span, seller_id):
                await connection.execute(
                    sql("replay_jobs.request"),
                    wanted.id,
                    seller_id,
                    span.start,
                    span.end,
                    wanted.dry_run,
                    asked_by,
                )
            case WantedOrders(count, digest, named_by):
                tag = await connection.execute(
                    sql("replay_jobs.request_orders"),
                    wanted.id,
                    count,
                    digest,
                    named_by,
                    wanted.dry_run,
                    asked_by,
                )
                if tag == "INSERT 0 1":
                    await replay_pieces.add(connection, wanted.id, orders)
    return await get(pool, wanted.id)


async def get(pool: Pool, id: str) -> ReplayJob | None:  # noqa: A002 -- the column's name
    """A job by its id."""
    row = await pool.fetchrow(sql("replay_jobs.get"), id)
    return _read(row) if row else None


async def newest(pool: Pool, limit: int) -> list[ReplayJob]:
    """The jobs that were asked for last, the newest first."""
    return [_read(row) for row in await pool.fetch(sql("replay_jobs.newest"), limit)]


async def next_open(pool: Pool, *, small: bool | None = None) -> ReplayJob | None:
    """The oldest job that is neither finished nor cancelled: of the small ones, of the others, or of all."""
    row = await pool.fetchrow(sql("replay_jobs.open"), False, 1, small, SMALL_ORDERS, SMALL_SPAN)
    return _read(row) if row else None


async def cancelled(pool: Pool) -> list[ReplayJob]:
    """Cancelled jobs that still lack an outcome."""
    rows = await pool.fetch(sql("replay_jobs.open"), True, MOST_AT_ONCE, None, SMALL_ORDERS, SMALL_SPAN)
    return [_read(row) for row in rows]


async def start(pool: Pool, id: str) -> None:  # noqa: A002
    """Count a start of a job, and note that it is under way."""
    await pool.execute(sql("replay_jobs.start"), id)


async def give_back(pool: Pool, id: str) -> None:  # noqa: A002
    """Take a start back: the process ended in good order, so the job did not bring it down."""
    await pool.execute(sql("replay_jobs.give_back"), id)


async def advance(pool: Pool, id: str, outcome: Mapping[str, object]) -> None:  # noqa: A002
    """Note what has been found so far; from now on only the present start counts."""
    await pool.execute(sql("replay_jobs.advance"), id, orjson.dumps(outcome).decode())


async def cancel(pool: Pool, id: str) -> bool:  # noqa: A002
    """Cancel a job; false when it is finished, already cancelled, or unknown."""
    return await pool.execute(sql("replay_jobs.cancel"), id) == "UPDATE 1"


async def finish(pool: Pool, id: str, state: ReplayState, outcome: Mapping[str, object]) -> None:  # noqa: A002
    """Give a job its outcome. A job keeps its first outcome."""
    await pool.execute(sql("replay_jobs.finish"), id, state.value, orjson.dumps(outcome).decode())
