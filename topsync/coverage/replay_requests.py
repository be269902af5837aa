"""Requests for replays: noted once, however often they are made. What cannot be done is refused at once."""

from __future__ import annotations

from datetime import datetime

from topsync.base.errors import OperatorError
from topsync.coverage import reach
from topsync.model.span import Span
from topsync.platforms.port import ListRules
from topsync.store import replay_jobs, sellers
from topsync.store.database import Pool
from topsync.store.replay_jobs import AskedBy, ReplayJob, WantedReplay
from topsync.store.sellers import Seller, SellerState


class ReplayRefusedError(OperatorError):
    """A replay that cannot be asked for, or is not known."""


async def note(
    pool: Pool, wanted: WantedReplay, asked_by: AskedBy, rules: ListRules, *, now: datetime
) -> ReplayJob:
    """Note a request; the same request again is the same job, in whatever state. Idempotent.

    `rules` are those of the list of orders. `now` is the platform's time, or the machine's where that is all
    there is.

    Raises:
        ReplayRefusedError: the id stands for another request, there is no such seller, or its data is erased,
            or the span cannot be pulled.
    """
    job = await replay_jobs.get(pool, wanted.id)
    if job is None:
        if objection := reach.objection(Span(wanted.start, wanted.end), rules, now=now):
            raise ReplayRefusedError(objection)
        job = await replay_jobs.request(pool, wanted, asked_by)
    if job is None:
        seller = await sellers.get(pool, wanted.seller_id)
        raise ReplayRefusedError(why_not(seller) or "the seller was added just now; ask again")
    if job.wanted != wanted:
        raise ReplayRefusedError(
            f"the id {wanted.id} is taken: it stands for {describe(job.wanted)}; choose another id, or see "
            f"what became of it: topsync replay --id {wanted.id}"
        )
    return job


def describe(wanted: WantedReplay) -> str:
    """What a request asks for, in words."""
    what = "a dry run" if wanted.dry_run else "the replay"
    return f"{what} of seller {wanted.seller_id} from {reach.text(wanted.start)} to {reach.text(wanted.end)}"


def why_not(seller: Seller | None) -> str | None:
    """Why nothing can be pulled of a seller, and what to do about it; None where it can."""
    if seller is None:
        return "there is no such seller"
    match seller.state:
        case SellerState.PAUSED:
            return f"the seller is paused: topsync sellers resume {seller.seller_id}, then ask again"
        case SellerState.EXPIRED:
            return (
                "the platform refuses the seller's session: topsync sellers authorise "
                f"{seller.seller_id}; what is missing since is replayed then by itself"
            )
        case SellerState.ERASED:
            return "the seller's data is erased"
        case SellerState.NEW | SellerState.LIVE:
            return None
