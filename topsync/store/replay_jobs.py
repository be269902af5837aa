"""Replays that operators ask for: durable requests with a durable outcome."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import asyncpg
import orjson

from topsync.store.database import Pool, sql


class State(StrEnum):
    """Where a job stands."""

    REQUESTED = "requested"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """One request: pull a seller's changes in a span again."""

    id: str
    seller_id: int
    start: datetime
    end: datetime
    dry_run: bool
    state: State = State.REQUESTED
    outcome: dict[str, object] | None = None


def _read(row: asyncpg.Record) -> ReplayJob:
    outcome = orjson.loads(row["outcome"]) if row["outcome"] is not None else None
    return ReplayJob(
        row["id"], row["seller_id"], row["start"], row["end"], row["dry_run"], State(row["state"]), outcome
    )


async def request(pool: Pool, job: ReplayJob) -> None:
    """Ask for a replay. Idempotent by the job's id."""
    await pool.execute(sql("replay_jobs.request"), job.id, job.seller_id, job.start, job.end, job.dry_run)


async def next_open(pool: Pool) -> ReplayJob | None:
    """The oldest job that is not finished."""
    row = await pool.fetchrow(sql("replay_jobs.next"))
    return _read(row) if row else None


async def start(pool: Pool, job: ReplayJob) -> None:
    """Note that a job is under way. Idempotent."""
    await pool.execute(sql("replay_jobs.start"), job.id)


async def finish(pool: Pool, job: ReplayJob, state: State, outcome: dict[str, object]) -> None:
    """Give a job its outcome."""
    await pool.execute(sql("replay_jobs.finish"), job.id, state.value, orjson.dumps(outcome).decode())


async def get(pool: Pool, id: str) -> ReplayJob | None:  # noqa: A002 -- the column's name
    """One job by id."""
    row = await pool.fetchrow(sql("replay_jobs.get"), id)
    return _read(row) if row else None
