"""What operators do about replays from the command line: one function per command."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from schemas import platform_time
from topsync import runtime
from topsync.errors import OperatorError
from topsync.store import database, replay_jobs, sellers
from topsync.store.replay_jobs import ReplayJob, State

console = Console(highlight=False)

OUTCOME_POLL_SECONDS = 0.3


class ReplayOperationError(OperatorError):
    """What was asked for cannot be done."""


async def replay(
    seller: str,
    start: datetime,
    end: datetime,
    *,
    dry_run: bool,
    request_id: str | None,
    wait_seconds: float,
) -> int:
    """Ask for a replay and show its outcome; 0 when it is done, 1 when it failed or is still under way."""
    if start >= end:
        raise ReplayOperationError("--from must be before --to")
    async with runtime.open_pool() as pool:
        found = await sellers.find(pool, seller)
        if found is None:
            raise ReplayOperationError(f"no seller {seller}; see `topsync sellers list`")
        if found.state is sellers.State.ERASED:
            raise ReplayOperationError(f"{found.nick} {found.reason}")
        job = ReplayJob(
            id=request_id or uuid4().hex[:12],
            seller_id=found.seller_id,
            start=start.replace(tzinfo=platform_time.CHINA),
            end=end.replace(tzinfo=platform_time.CHINA),
            dry_run=dry_run,
        )
        await replay_jobs.request(pool, job)
        done = await _wait_for_outcome(pool, job.id, wait_seconds)
    if done is None:
        console.print(f"replay {job.id} is still under way; ask again with --id {job.id}")
        return 1
    table = Table(title=f"Replay {done.id}: {done.state.value}", show_header=False)
    for name, value in (done.outcome or {}).items():
        table.add_row(name.replace("_", " "), str(value))
    console.print(table)
    return 0 if done.state is State.DONE else 1


async def _wait_for_outcome(pool: database.Pool, id: str, wait_seconds: float) -> ReplayJob | None:  # noqa: A002
    deadline = time.monotonic() + wait_seconds
    while True:
        job = await replay_jobs.get(pool, id)
        if job is not None and job.state in (State.DONE, State.FAILED):
            return job
        if time.monotonic() >= deadline:
            return None
        await asyncio.sleep(OUTCOME_POLL_SECONDS)
