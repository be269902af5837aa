"""What a replay has found, as it is published and kept. Pure."""

from __future__ import annotations

from schemas.notification import ReplayFinished
from topsync.coverage import reach
from topsync.coverage.pull import PullOutcome
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.store.replay_jobs import ReplayJob, WantedReplay

IN_THE_ROW = frozenset({"replay", "seller_id", "state"})
"""What `replay_jobs` has in columns of its own."""


def of_request(wanted: WantedReplay) -> ReplayFinished:
    """The outcome of a request for which nothing is done yet."""
    return ReplayFinished(
        replay=wanted.id,
        seller_id=wanted.seller_id,
        state="done",
        start=wanted.start,
        end=wanted.end,
        dry_run=wanted.dry_run,
    )


def so_far(job: ReplayJob) -> ReplayFinished:
    """The outcome of a job as far as it came."""
    found = ReplayFinished.model_validate(
        {"replay": job.id, "seller_id": job.wanted.seller_id, "state": "done", **job.outcome}
    )
    return of_request(job.wanted).model_copy(update=found.model_dump(exclude_none=True))


def kept(outcome: ReplayFinished) -> dict[str, object]:
    """What the job's row keeps of an outcome."""
    return outcome.model_dump(mode="json", exclude_none=True, exclude=set(IN_THE_ROW))


def plus(
    outcome: ReplayFinished, piece: Span, found: PullOutcome, *, calls_per_second: float
) -> ReplayFinished:
    """The outcome with another piece."""
    orders_to_fetch = (outcome.orders_to_fetch or 0) + found.hinted[Kind.ORDER]
    refunds_to_fetch = _sum(outcome.refunds_to_fetch, found.hinted.get(Kind.REFUND))
    list_calls = (outcome.list_calls or 0) + found.calls
    calls = list_calls + orders_to_fetch + (refunds_to_fetch or 0)
    return outcome.model_copy(
        update={
            "pulled_from": outcome.pulled_from or piece.start,
            "pulled_to": piece.end,
            "orders_listed": (outcome.orders_listed or 0) + found.listed[Kind.ORDER],
            "orders_to_fetch": orders_to_fetch,
            "refunds_listed": _sum(outcome.refunds_listed, found.listed.get(Kind.REFUND)),
            "refunds_to_fetch": refunds_to_fetch,
            "list_calls": list_calls,
            "calls": calls,
            "minutes": round(calls / calls_per_second / 60, 2),
        }
    )


def done(outcome: ReplayFinished, span: Span) -> ReplayFinished:
    """The outcome of a job that came to its end; with the reason, where it did less than was asked for."""
    if outcome.pulled_from is None or outcome.pulled_to is None:
        return outcome
    return outcome.model_copy(
        update={"note": reach.shortfall(span, Span(outcome.pulled_from, outcome.pulled_to))}
    )


def failed(outcome: ReplayFinished, error: str) -> ReplayFinished:
    """The outcome of a job that did not come to its end, as far as it came."""
    return outcome.model_copy(update={"state": "failed", "error": error})


def _sum(before: int | None, more: int | None) -> int | None:
    return None if before is None and more is None else (before or 0) + (more or 0)
