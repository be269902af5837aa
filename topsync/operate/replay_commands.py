"""The commands about replays: a function per command."""

from __future__ import annotations

import asyncio
import io
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

from schemas import platform_time
from topsync.base import settings, terminal
from topsync.base.progress_bars import advancing
from topsync.base.settings import CoverageSettings
from topsync.coverage import reach, replay_lists, replay_requests
from topsync.coverage.replay_lists import OrderListError
from topsync.coverage.replay_requests import ReplayRefusedError
from topsync.deadletters.letters import DeadLetterId, Letter
from topsync.model.kind import Kind
from topsync.operate import dead_letter_desk, replay_tables
from topsync.operate.seller_commands import find
from topsync.platforms.port import ListRules
from topsync.store import call_budget, comparisons, open_letters, replay_jobs, replay_pieces, sellers
from topsync.store.call_budget import Ban
from topsync.store.database import Pool
from topsync.store.replay_jobs import FINISHED, AskedBy, ReplayJob, ReplayState, WantedOrders, WantedReplay
from topsync.wiring import parts, platforms

OUTCOME_POLL_SECONDS: Final = 0.3

SAID_EVERY_SECONDS: Final = 5.0
"""Where the output is no terminal, the progress is written so often at most."""

SELLERS_SHOWN: Final = 100
"""Of a replay of several sellers; those first of which something failed."""

STANDARD_INPUT: Final = "-"

ID_PATTERN: Final = re.compile("[A-Za-z0-9._:-]{1,64}")
"""The same rule as for requests by topic: people type an id again, and it is the key of a record."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The replay of a span that an operator asks for; times are the platform's, without a zone."""

    seller: str | None
    """Nick or id; None: all sellers."""
    start: datetime
    end: datetime
    dry_run: bool
    id: str | None


@dataclass(frozen=True, slots=True)
class AskedOrders:
    """The replay of orders that an operator asks for: in exactly one way."""

    tids: Sequence[str]
    """As they were typed."""
    file: str | None
    """A path, or `-` for standard input."""
    dead_letter: str | None
    """A dead letter whose kin is meant."""
    report: str | None
    """A report of a comparison: what differed."""
    seller: str | None
    """Of orders that are not stored here: nick or id."""
    dry_run: bool
    id: str | None


@dataclass(frozen=True, slots=True)
class _Meant:
    """The orders of a replay, and whose they are as far as whatever names them knows it."""

    tids: Sequence[int]
    sellers: Mapping[int, int]
    named_by: str | None = None


async def request(asked: Asked, *, wait_seconds: float, as_json: bool) -> int:
    """Ask for a replay of a span and show its outcome; 0 when it is done, 1 when it failed or is still under
    way.

    Raises:
        ReplayRefusedError: the request is not possible.
    """
    if asked.start >= asked.end:
        raise ReplayRefusedError("--from must be before --to")
    async with parts.open_pool() as pool:
        wanted = WantedReplay.of_seller(
            _checked(asked.id),
            None if asked.seller is None else (await find(pool, asked.seller)).seller_id,
            asked.start.replace(tzinfo=platform_time.CHINA),
            asked.end.replace(tzinfo=platform_time.CHINA),
            asked.dry_run,
        )
        now = datetime.now(UTC)
        job = await replay_requests.note(pool, wanted, AskedBy.OPERATOR, _list_rules(), now=now)
        of_sellers = 1 if asked.seller is not None else await sellers.count(pool)
        terminal.complain(_announcement(job, of_sellers=of_sellers, now=now))
        return await _show_outcome(pool, job, wait_seconds=wait_seconds, as_json=as_json)


async def request_orders(asked: AskedOrders, *, wait_seconds: float, as_json: bool) -> int:
    """Ask for a replay of orders and show its outcome; the status as for `request`.

    Raises:
        OrderListError: the list cannot be read.
        ReplayRefusedError: the request is not possible.
        DeadLettersError: there is no such dead letter.
    """
    id_ = _checked(asked.id)
    meant = await _meant(asked)
    async with parts.open_pool() as pool:
        seller_id = None if asked.seller is None else (await find(pool, asked.seller)).seller_id
        job = await replay_requests.note_orders(
            pool,
            id_,
            meant.tids,
            AskedBy.OPERATOR,
            dry_run=asked.dry_run,
            seller_id=seller_id,
            sellers_named=meant.sellers,
            named_by=meant.named_by,
        )
        of_sellers = (await replay_pieces.count(pool, job.id)).sellers
        terminal.complain(_announcement(job, of_sellers=of_sellers, now=datetime.now(UTC)))
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
        nicks = await _nicks(pool, jobs)
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


def _read(asked: AskedOrders) -> list[int]:
    """The orders that were typed, or that the file has."""
    if asked.file is None:
        return replay_lists.read(asked.tids)
    if asked.file == STANDARD_INPUT:
        if sys.stdin.isatty():
            terminal.complain("reading tids, one a line (Ctrl-D ends the list)")
        return replay_lists.read(io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace"))
    try:
        with Path(asked.file).open(encoding="utf-8", errors="replace") as lines:
            return replay_lists.read(lines)
    except OSError as error:
        raise OrderListError(f"{asked.file} cannot be read: {error.strerror}") from None


async def _meant(asked: AskedOrders) -> _Meant:
    if asked.dead_letter is not None:
        return await _kin(asked.dead_letter)
    if asked.report is not None:
        return await _of_report(asked.report)
    return _Meant(_read(asked), {})


async def _of_report(id_: str) -> _Meant:
    async with parts.open_pool() as pool:
        if await comparisons.get(pool, id_) is None:
            raise ReplayRefusedError(f"no report {id_}; see `topsync report list`")
        found = await comparisons.differences(pool, id_, limit=replay_lists.MOST_ORDERS + 1)
    if len(found) > replay_lists.MOST_ORDERS:
        raise ReplayRefusedError(
            f"report {id_} names more than {replay_lists.MOST_ORDERS} differences: a new bulk start of the "
            f"sellers fetches all at once; see `topsync report show {id_}`"
        )
    if not found:
        raise ReplayRefusedError(f"nothing differs by report {id_}: there is nothing to fetch")
    sellers = {each.tid: each.seller_id for each in found}
    return _Meant(sorted(sellers), sellers, replay_lists.of_report(id_))


async def _kin(name: str) -> _Meant:
    """The orders that failed for the same reason, of the same seller."""
    try:
        wanted = DeadLetterId.parse(name)
    except ValueError as error:
        raise ReplayRefusedError(f"{error}; see `topsync deadletter list`") from None
    async with dead_letter_desk.open_desk() as desk:
        (row,) = await desk.named([wanted])
        letter = row.letter
        if letter.seller_id is None or letter.tid is None:
            raise ReplayRefusedError(_no_kin(letter))
        found = await open_letters.kin(
            desk.pool, letter.seller_id, letter.reason, limit=replay_lists.MOST_ORDERS
        )
    tids = sorted({letter.tid, *found})
    named_by = replay_lists.of_dead_letter(str(letter.id))
    return _Meant(tids, dict.fromkeys(tids, letter.seller_id), named_by)


def _no_kin(letter: Letter) -> str:
    missing = "seller" if letter.seller_id is None else "order"
    return (
        f"dead letter {letter.id} names no {missing}, so there is nothing to fetch: see what helps, by "
        f"`topsync deadletter retry {letter.id} --dry-run`"
    )


async def _show_outcome(pool: Pool, job: ReplayJob, *, wait_seconds: float, as_json: bool) -> int:
    try:
        job = await _wait_for_outcome(pool, job, wait_seconds)
    except asyncio.CancelledError:
        terminal.complain(
            f"replay {job.id} goes on; {_way_back(job)}, or stop it: topsync replay cancel {job.id}"
        )
        raise
    nicks = await _nicks(pool, [job])
    is_of_one = job.wanted.one_seller is not None
    by_seller = [] if is_of_one else await replay_pieces.of_sellers(pool, job.id, limit=SELLERS_SHOWN)
    if as_json:
        terminal.write_json(replay_tables.as_json(job, nicks, None if is_of_one else by_seller))
    else:
        terminal.show(replay_tables.of_one(job, nicks))
        for table in replay_tables.details(job, by_seller):
            terminal.say("")
            terminal.show(table)
        counts = await replay_pieces.count(pool, job.id)
        if by_seller and counts.sellers > len(by_seller):
            terminal.say(f"and {counts.sellers - len(by_seller)} other sellers")
    if job.state not in FINISHED:
        terminal.complain(f"replay {job.id} is still under way; {_way_back(job)}")
    return 0 if job.state is ReplayState.DONE else 1


async def _wait_for_outcome(pool: Pool, job: ReplayJob, wait_seconds: float) -> ReplayJob:
    """The job when it is finished, or its state after `wait_seconds`."""
    began = time.monotonic()
    with advancing(every_seconds=0 if wait_seconds < SAID_EVERY_SECONDS else SAID_EVERY_SECONDS) as show_it:
        while job.state not in FINISHED and (waited := time.monotonic() - began) < wait_seconds:
            said = _under_way(job, await call_budget.bans(pool))
            show_it(said, f"({int(waited)} s)", replay_tables.share_done(job))
            await asyncio.sleep(OUTCOME_POLL_SECONDS)
            job = await _known(pool, job.id)
    return job


def _under_way(job: ReplayJob, bans: Sequence[Ban]) -> str:
    said = f"replay {job.id} "
    said += "waits for the reconciler" if job.state is ReplayState.REQUESTED else "is under way"
    said += replay_tables.how_far(job)
    for ban in bans:
        said += f"; the platform has closed {ban.scope} until {platform_time.format(ban.until)} (GMT+8)"
    return said


def _announcement(job: ReplayJob, *, of_sellers: int, now: datetime) -> str:
    """Which replay it is and what it costs, to be said before any call is made."""
    wanted = job.wanted
    if job.state is not ReplayState.REQUESTED:
        return f"replay {job.id} was asked for at {platform_time.format(job.requested_at)} (GMT+8) already"
    if isinstance(wanted.what, WantedOrders):
        what = f"{_number(wanted.what.count, 'order')} of {_number(of_sellers, 'seller')}"
        if wanted.dry_run:
            return f"replay {job.id}, a dry run: it counts {what}, and makes no call"
        return f"replay {job.id}: {what}, a call for each order"
    window = timedelta(seconds=settings.load(CoverageSettings).window_seconds)
    span = reach.pullable(wanted.what.span, _list_rules(), now=now)
    calls = of_sellers * reach.fewest_list_calls(span, window=window) if span else 0
    whose = "" if wanted.what.seller_id is not None else f" for {_number(of_sellers, 'seller')}"
    if wanted.dry_run:
        return f"replay {job.id}, a dry run: it fetches nothing, but listing takes {_at_least(calls)}{whose}"
    return (
        f"replay {job.id}: listing takes {_at_least(calls)}{whose}, and each order or refund that is missing "
        "another call"
    )


def _number(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def _at_least(calls: int) -> str:
    return f"at least {_number(calls, 'call')}"


def _list_rules() -> ListRules:
    return platforms.chosen().list_rules(Kind.ORDER)


def _way_back(job: ReplayJob) -> str:
    return f"see it again: topsync replay --id {job.id}"


async def _known(pool: Pool, id: str) -> ReplayJob:  # noqa: A002
    job = await replay_jobs.get(pool, id)
    if job is None:
        raise ReplayRefusedError(f"no replay {id}; see `topsync replay list`")
    return job


async def _nicks(pool: Pool, jobs: Sequence[ReplayJob]) -> dict[int, str]:
    return await sellers.nicks(
        pool, {seller_id for job in jobs if (seller_id := job.wanted.one_seller) is not None}
    )


def _checked(id: str | None) -> str:  # noqa: A002
    """The id, or a new one.

    Raises:
        ReplayRefusedError: it is none.
    """
    if id is None:
        return uuid4().hex[:12]
    if ID_PATTERN.fullmatch(id) is None:
        raise ReplayRefusedError("an id is made of 1 to 64 letters, digits and any of . _ : -")
    return id
