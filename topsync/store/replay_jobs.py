"""Replays that operators and subscribers ask for: durable requests with a durable outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import asyncpg
import orjson

from topsync.store.database import Pool, sql

MOST_AT_ONCE = 100
"""How many cancelled jobs are ended at once."""


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
    """By the topic `signals`."""


@dataclass(frozen=True, slots=True)
class WantedReplay:
    """A request: pull a seller's changes in a span again."""

    id: str
    seller_id: int
    start: datetime
    end: datetime
    dry_run: bool


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
    outcome: Mapping[str, object]
    """What has been found so far, with the fields of `ReplayFinished`."""

    @property
    def id(self) -> str:
        """The request's id."""
        return self.wanted.id


def _read(row: asyncpg.Record) -> ReplayJob:
    return ReplayJob(
        wanted=WantedReplay(row["id"], row["seller_id"], row["start"], row["end"], row["dry_run"]),
        asked_by=row["asked_by"],
        state=ReplayState(row["state"]),
        requested_at=row["requested_at"],
        finished_at=row["finished_at"],
        starts=row["starts"],
        cancelled=row["cancelled"],
        outcome=orjson.loads(row["outcome"]) if row["outcome"] is not None else {},
    )


async def request(pool: Pool, wanted: WantedReplay, asked_by: AskedBy) -> ReplayJob | None:
    """Ask for a replay. Returns the job with this id, which another request may have made before.

    None when there is no such seller, or the seller is erased. Idempotent.
    """
    await pool.execute(
        sql("replay_jobs.request"),
        wanted.id,
        wanted.seller_id,
        wanted.start,
        wanted.end,
        wanted.dry_run,
        asked_by.value,
    )
    return await get(pool, wanted.id)


async def get(pool: Pool, id: str) -> ReplayJob | None:  # noqa: A002 -- the column's name
    """A job by its id."""
    row = await pool.fetchrow(sql("replay_jobs.select"), id, 1)
    return _read(row) if row else None


async def newest(pool: Pool, limit: int) -> list[ReplayJob]:
    """The jobs that were asked for last, the newest first."""
    return [_read(row) for row in await pool.fetch(sql("replay_jobs.select"), None, limit)]


async def next_open(pool: Pool) -> ReplayJob | None:
    """The oldest job that is neither finished nor cancelled."""
    row = await pool.fetchrow(sql("replay_jobs.open"), False, 1)
    return _read(row) if row else None


async def cancelled(pool: Pool) -> list[ReplayJob]:
    """Cancelled jobs that still lack an outcome."""
    return [_read(row) for row in await pool.fetch(sql("replay_jobs.open"), True, MOST_AT_ONCE)]


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
