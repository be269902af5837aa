"""The commands about replays: a function per command."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from schemas import platform_time
from topsync.base import settings, terminal
from topsync.base.progress_bars import moving
from topsync.base.settings import CoverageSettings
from topsync.coverage import reach, replay_requests
from topsync.coverage.replay_requests import ReplayRefusedError
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.operate import replay_tables
from topsync.operate.seller_commands import find
from topsync.platforms.port import ListRules
from topsync.store import call_budget, replay_jobs, sellers
from topsync.store.call_budget import Ban
from topsync.store.database import Pool
from topsync.store.replay_jobs import FINISHED, AskedBy, ReplayJob, ReplayState, WantedReplay
from topsync.wiring import parts, platforms

OUTCOME_POLL_SECONDS: Final = 0.3

ID_PATTERN: Final = re.compile("[A-Za-z0-9._:-]{1,64}")
"""The same rule as for requests by topic: people type an id again, and it is the key of a record."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The replay that an operator asks for; times are the platform's, without a zone."""

    seller: str
    start: datetime
    end: datetime
    dry_run: bool
    id: str | None


async def request(asked: Asked, *, wait_seconds: float, as_json: bool) -> int:
    """Ask for a replay and show its outcome; 0 when it is done, 1 when it failed or is still under way.

    Raises:
        ReplayRefusedError: the request is not possible.
    """
    if asked.start >= asked.end:
        raise ReplayRefusedError("--from must be before --to")
    async with parts.open_pool() as pool:
        seller = await find(pool, asked.seller)
        wanted = WantedReplay(
            id=_checked(asked.id or uuid4().hex[:12]),
            seller_id=seller.seller_id,
            start=asked.start.replace(tzinfo=platform_time.CHINA),
            end=asked.end.replace(tzinfo=platform_time.CHINA),
            dry_run=asked.dry_run,
        )
        now = datetime.now(UTC)
        job = await replay_requests.note(pool, wanted, AskedBy.OPERATOR, _list_rules(), now=now)
        terminal.complain(_announcement(job, now=now))
        return await _show_outcome(pool, job, wait_seconds=wait_seconds, as_json=as_json)


async def show(id: str, *, wait_seconds: float, as_json: bool) -> int:  # noqa: A002 -- the option's name
    """Show a replay's outcome, once it has one; the status as for `request`.

    Raises:
        ReplayRefusedError: there is no such replay.
    """
    async with parts.open_pool() as pool:
        job = await _known(pool, id)
        return await _show_outcome(pool, job, wait_seconds=wait_seconds, as_json=as_json)


async def list_jobs(*, limit: int, as_json: bool) -> None:
    """Show the newest jobs, the newest first."""
    async with parts.open_pool() as pool:
        jobs = await replay_jobs.newest(pool, limit)
        nicks = await _nicks(pool)
    if as_json:
        for job in jobs:
            terminal.write_json(replay_tables.as_json(job, nicks))
    elif jobs:
        terminal.show(replay_tables.of_all(jobs, nicks))
    else:
        terminal.say("nobody has asked for a replay")


async def cancel(id: str) -> int:  # noqa: A002
    """Cancel a job; 0 when it is cancelled, now or before, 1 when it had come to its end.

    Raises:
        ReplayRefusedError: there is no such replay.
    """
    async with parts.open_pool() as pool:
        before = await _known(pool, id)
        await replay_jobs.cancel(pool, id)
        job = await _known(pool, id)
    if not job.cancelled:
        terminal.say(f"replay {job.id} is {job.state.value} already: nothing to cancel")
        return 1
    if job.state is ReplayState.DONE:
        terminal.say(f"replay {job.id} was done before it could be stopped")
        return 1
    if before.state is ReplayState.RUNNING and job.state is ReplayState.RUNNING:
        terminal.say(f"replay {job.id} is cancelled, and stops within seconds; what it pulled stays")
    else:
        terminal.say(f"replay {job.id} is cancelled")
    return 0


async def _show_outcome(pool: Pool, job: ReplayJob, *, wait_seconds: float, as_json: bool) -> int:
    try:
        job = await _wait_for_outcome(pool, job, wait_seconds)
    except asyncio.CancelledError:
        terminal.complain(
            f"replay {job.id} goes on; {_way_back(job)}, or stop it: topsync replay cancel {job.id}"
        )
        raise
    nicks = await _nicks(pool)
    if as_json:
        terminal.write_json(replay_tables.as_json(job, nicks))
    else:
        terminal.show(replay_tables.of_one(job, nicks))
    if job.state not in FINISHED:
        terminal.complain(f"replay {job.id} is still under way; {_way_back(job)}")
    return 0 if job.state is ReplayState.DONE else 1


async def _wait_for_outcome(pool: Pool, job: ReplayJob, wait_seconds: float) -> ReplayJob:
    """The job when it is finished, or its state after `wait_seconds`."""
    began = time.monotonic()
    with moving() as show_it:
        while job.state not in FINISHED and (waited := time.monotonic() - began) < wait_seconds:
            show_it(_under_way(job, await call_budget.bans(pool)), f"({int(waited)} s)")
            await asyncio.sleep(OUTCOME_POLL_SECONDS)
            job = await _known(pool, job.id)
    return job


def _under_way(job: ReplayJob, bans: Sequence[Ban]) -> str:
    said = f"replay {job.id} "
    said += "waits for the reconciler" if job.state is ReplayState.REQUESTED else "is under way"
    if "pulled_to" in job.outcome:
        pulled_to = replay_tables.moment(job.outcome["pulled_to"])
        said += f", at {pulled_to}, {job.outcome.get('orders_listed')} orders"
    for ban in bans:
        said += f"; the platform has closed {ban.scope} until {platform_time.format(ban.until)} (GMT+8)"
    return said


def _announcement(job: ReplayJob, *, now: datetime) -> str:
    """Which replay it is and what it costs, to be said before any call is made."""
    wanted = job.wanted
    if job.state is not ReplayState.REQUESTED:
        return f"replay {job.id} was asked for at {platform_time.format(job.requested_at)} (GMT+8) already"
    window = timedelta(seconds=settings.load(CoverageSettings).window_seconds)
    span = reach.pullable(Span(wanted.start, wanted.end), _list_rules(), now=now)
    calls = reach.fewest_list_calls(span, window=window) if span else 0
    if wanted.dry_run:
        return f"replay {job.id}, a dry run: it fetches nothing, but listing takes {_at_least(calls)}"
    return (
        f"replay {job.id}: listing takes {_at_least(calls)}, and each order or refund that is missing "
        "another call"
    )


def _at_least(calls: int) -> str:
    return "at least 1 call" if calls == 1 else f"at least {calls} calls"


def _list_rules() -> ListRules:
    return platforms.chosen().list_rules(Kind.ORDER)


def _way_back(job: ReplayJob) -> str:
    return f"see it again: topsync replay --id {job.id}"


async def _known(pool: Pool, id: str) -> ReplayJob:  # noqa: A002
    job = await replay_jobs.get(pool, id)
    if job is None:
        raise ReplayRefusedError(f"no replay {id}; see `topsync replay list`")
    return job


async def _nicks(pool: Pool) -> dict[int, str]:
    return {seller.seller_id: seller.nick for seller in await sellers.all_of(pool)}


def _checked(id: str) -> str:  # noqa: A002
    if ID_PATTERN.fullmatch(id) is None:
        raise ReplayRefusedError("an id is made of 1 to 64 letters, digits and any of . _ : -")
    return id
