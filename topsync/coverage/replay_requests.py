"""Requests for replays: noted once, however often they are made. What cannot be done is refused at once.

The one way into the table of jobs, for the command line, for signals, and for whatever comes later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from topsync.base.errors import OperatorError
from topsync.coverage import reach, replay_lists
from topsync.platforms.port import ListRules
from topsync.store import orders, replay_jobs, sellers
from topsync.store.database import Pool
from topsync.store.replay_jobs import AskedBy, ReplayJob, WantedOrders, WantedReplay, WantedSpan
from topsync.store.sellers import Seller, SellerState

LOOKED_UP_AT_ONCE: Final = 10_000
"""Orders whose sellers are looked up by one statement."""


class ReplayRefusedError(OperatorError):
    """A replay that cannot be asked for, or is not known."""


async def note(
    pool: Pool, wanted: WantedReplay, asked_by: AskedBy, rules: ListRules, *, now: datetime
) -> ReplayJob:
    """Note a request for a span; the same request again is the same job, in whatever state. Idempotent.

    `rules` are those of the list of orders. `now` is the platform's time, or the machine's where that is all
    there is.

    Raises:
        ReplayRefusedError: the id stands for another request, there is no such seller, or its data is erased,
            or the span cannot be pulled.
    """
    assert isinstance(wanted.what, WantedSpan)
    job = await replay_jobs.get(pool, wanted.id)
    if job is None:
        if objection := reach.objection(wanted.what.span, rules, now=now):
            raise ReplayRefusedError(objection)
        job = await replay_jobs.request(pool, wanted, asked_by)
    if job is None:
        seller = None if wanted.one_seller is None else await sellers.get(pool, wanted.one_seller)
        raise ReplayRefusedError(why_not(seller) or "the seller was added just now; ask again")
    return _the_same(job, wanted)


async def note_orders(
    pool: Pool,
    id: str,  # noqa: A002 -- the column's name
    tids: Sequence[int],
    asked_by: AskedBy,
    *,
    dry_run: bool,
    seller_id: int | None = None,
    sellers_named: Mapping[int, int] | None = None,
    named_by: str | None = None,
) -> ReplayJob:
    """Note a request for orders; see `note`.

    `seller_id` is the seller of those orders that are not stored here, or `sellers_named` are, by order; of
    all others, the table knows it.
    `named_by` says what names the orders, where that is no list: then asking again means the orders that it
    named the first time.

    Raises:
        ReplayRefusedError: the id stands for another request, no order is named, or nobody knows whose an
            order is.
    """
    wanted = WantedReplay(id, WantedOrders(len(tids), replay_lists.digest(tids), named_by), dry_run)
    job = await replay_jobs.get(pool, id)
    if job is None:
        if not tids:
            raise ReplayRefusedError("no order is named: there is nothing to fetch")
        seller_of = {**(sellers_named or {}), **await _sellers_of(pool, tids)}
        unknown = replay_lists.of_unknown_sellers(tids, seller_of)
        if unknown and seller_id is None:
            raise ReplayRefusedError(
                f"{len(unknown)} of {len(tids)} orders are not stored here, so nobody knows whose they are: "
                f"{replay_lists.some(unknown)}; name their seller (--seller, in a signal seller_id) or "
                "leave them out"
            )
        if seller_id is not None:
            seller_of |= dict.fromkeys(unknown, seller_id)
        pieces = replay_lists.pieces(tids, seller_of)
        job = await replay_jobs.request(pool, wanted, asked_by, orders=pieces)
    assert job is not None
    return _the_same(job, wanted)


async def _sellers_of(pool: Pool, tids: Sequence[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for start in range(0, len(tids), LOOKED_UP_AT_ONCE):
        found |= await orders.sellers_of(pool, tids[start : start + LOOKED_UP_AT_ONCE])
    return found


def _the_same(job: ReplayJob, wanted: WantedReplay) -> ReplayJob:
    """The job, where it is what is wanted.

    Raises:
        ReplayRefusedError: it is not.
    """
    if not job.wanted.is_same(wanted):
        raise ReplayRefusedError(
            f"the id {wanted.id} is taken: it stands for {describe(job.wanted)}; choose another id, or see "
            f"what became of it: topsync replay --id {wanted.id}"
        )
    return job


def describe(wanted: WantedReplay) -> str:
    """What a request asks for, in words."""
    how = "a dry run" if wanted.dry_run else "the replay"
    return f"{how} of {describe_orders(wanted)}"


def describe_orders(wanted: WantedReplay) -> str:
    """What is replayed, in words."""
    match wanted.what:
        case WantedSpan(span, seller_id):
            whose = "all sellers" if seller_id is None else f"seller {seller_id}"
            return f"{whose} from {reach.text(span.start)} to {reach.text(span.end)}"
        case WantedOrders(count, _, named_by):
            orders_named = "1 order" if count == 1 else f"{count} orders"
            return orders_named if named_by is None else f"{orders_named}, {replay_lists.in_words(named_by)}"


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


def away(seller: Seller | None) -> str | None:
    """Why no call can be made for a seller, in a word; None where calls can be made."""
    if seller is None:
        return "unknown_seller"
    return {
        SellerState.PAUSED: "seller_paused",
        SellerState.EXPIRED: "session_refused",
        SellerState.ERASED: "seller_erased",
    }.get(seller.state)
