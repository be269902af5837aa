"""Replays for people and for machines. Times are shown in GMT+8; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from schemas import platform_time
from topsync.base.terminal import Column, Table, facts
from topsync.store.replay_jobs import ReplayJob, ReplayState

CANCELLED = "cancelled"
"""The word for a cancelled job, whether or not the reconciler has given it its outcome."""

MOMENTS = frozenset({"start", "end", "pulled_from", "pulled_to"})
"""The fields of an outcome that are times."""


def standing(job: ReplayJob) -> str:
    """The state of a job, in a word."""
    return CANCELLED if job.cancelled and job.state is not ReplayState.DONE else job.state.value


def of_all(jobs: Iterable[ReplayJob], nicks: Mapping[int, str]) -> Table:
    """A row for each job."""
    table = Table(
        (
            Column("replay", whole=True),
            Column("state", whole=True),
            Column("from (GMT+8)", whole=True),
            Column("to", whole=True, rank=2),
            Column("seller", rank=1),
            Column("asked by", whole=True, rank=3),
            Column("outcome"),
        ),
        title="Replays, the newest first",
    )
    for job in jobs:
        wanted = job.wanted
        table.add(
            job.id,
            standing(job),
            moment(wanted.start),
            moment(wanted.end),
            _seller(job, nicks),
            job.asked_by or "",
            _in_short(job),
        )
    return table


def of_one(job: ReplayJob, nicks: Mapping[int, str]) -> Table:
    """All that is known about a job."""
    table = facts(f"Replay {job.id}: {standing(job)}")
    wanted = job.wanted
    rows = {
        "seller": f"{_seller(job, nicks)} ({wanted.seller_id})",
        "from (GMT+8)": moment(wanted.start),
        "to (GMT+8)": moment(wanted.end),
        "dry run": "yes" if wanted.dry_run else "no",
        "asked by": job.asked_by or "unknown",
        "asked at (GMT+8)": platform_time.format(job.requested_at),
        **_outcome(job),
    }
    for name, value in rows.items():
        table.add(name, value)
    return table


def as_json(job: ReplayJob, nicks: Mapping[int, str]) -> dict[str, object]:
    """A job for machines: what was asked for, its state, and what the notification says about it."""
    wanted = job.wanted
    return {
        "replay": job.id,
        "seller_id": str(wanted.seller_id),
        "nick": nicks.get(wanted.seller_id),
        "start": wanted.start,
        "end": wanted.end,
        "dry_run": wanted.dry_run,
        "asked_by": job.asked_by,
        "requested_at": job.requested_at,
        "finished_at": job.finished_at,
        **job.outcome,
        "state": standing(job),
    }


def _seller(job: ReplayJob, nicks: Mapping[int, str]) -> str:
    return nicks.get(job.wanted.seller_id) or str(job.wanted.seller_id)


def _in_short(job: ReplayJob) -> str:
    """The outcome of a job, in a sentence."""
    found = job.outcome
    parts = ["dry run"] if job.wanted.dry_run else []
    if "orders_listed" in found:
        parts.append(f"{found['orders_listed']} orders, {found['orders_to_fetch']} to fetch")
    parts += [str(found[name]) for name in ("error", "note") if name in found]
    if job.state is ReplayState.RUNNING and "pulled_to" in found:
        parts.append(f"up to {moment(found['pulled_to'])}")
    return "; ".join(parts)


def _outcome(job: ReplayJob) -> dict[str, str]:
    asked_for = {"start", "end", "dry_run"}
    return {
        name.replace("_", " "): moment(value) if name in MOMENTS else str(value)
        for name, value in job.outcome.items()
        if name not in asked_for
    }


def moment(value: object) -> str:
    """A time as the platform writes it; a value that is no time, unchanged."""
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(instant, datetime):
            return platform_time.format(instant)
    except (ValueError, OverflowError):
        pass
    return str(value)
