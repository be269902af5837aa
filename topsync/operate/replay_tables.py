"""Replays for people and for machines. Times are shown in GMT+8; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from schemas import platform_time
from topsync.base.terminal import Cell, Column, Styled, Table, facts
from topsync.coverage import replay_found, replay_lists
from topsync.coverage.replay_found import NotFetched
from topsync.store.replay_jobs import ReplayJob, ReplayState, WantedOrders, WantedSpan
from topsync.store.replay_pieces import SellerOutcome

CANCELLED = "cancelled"
"""The word for a cancelled job, whether or not the reconciler has given it its outcome."""

MOMENTS = frozenset({"start", "end", "pulled_from", "pulled_to"})
"""The fields of an outcome that are times."""

ELSEWHERE: Final = frozenset({"start", "end", "dry_run", "orders", "named_by", "not_fetched", "failed"})
"""The fields of an outcome that are in the request, or in a table of their own."""

WRONG: Final = "bold red"

MEANINGS: Final = {
    "not_there": "the platform does not know it",
    "session_refused": "the seller's session is refused: it is fetched when the seller is back",
    "seller_paused": "the seller is paused: it is fetched when the seller is back",
    "seller_erased": "the seller's data is erased",
    "unknown_seller": "nobody has added the seller",
    "not_stored": "no enricher has stored it in time",
    "refused": "the platform refuses it; see topsync deadletter list",
}
"""Of reasons for which orders are not fetched; those of dead letters are explained where they are listed."""


def standing(job: ReplayJob) -> str:
    """The state of a job, in a word."""
    return CANCELLED if job.cancelled and job.state is not ReplayState.DONE else job.state.value


def share_done(job: ReplayJob) -> float | None:
    """How much of a job is done, from 0 to 1; None where that is not known."""
    what, pieces = job.wanted.what, job.outcome.get("pieces")
    if isinstance(what, WantedSpan) and what.seller_id is not None:
        reached = _instant(job.outcome.get("pulled_to"))
        whole = (min(what.span.end, job.requested_at) - what.span.start).total_seconds()
        if reached is None or whole <= 0:
            return None
        return min(1.0, max(0.0, (reached - what.span.start).total_seconds() / whole))
    done = job.outcome.get("pieces_done")
    if isinstance(pieces, int) and isinstance(done, int) and pieces:
        return done / pieces
    return None


def how_far(job: ReplayJob) -> str:
    """How far a job that is under way has come, to follow its name."""
    found = job.outcome
    if isinstance(job.wanted.what, WantedSpan) and job.wanted.what.seller_id is not None:
        if "pulled_to" not in found:
            return ""
        return f", at {moment(found['pulled_to'])}, {found.get('orders_listed')} orders"
    if "pieces" not in found or not found["pieces"]:
        return ""
    if isinstance(job.wanted.what, WantedOrders):
        missing = sum(each.orders for each in _not_fetched(found).values())
        answered = _count(found.get("orders_fetched")) + missing
        return f", {answered} of {job.wanted.what.count} orders"
    done, listed = found.get("pieces_done", 0), found.get("orders_listed", 0)
    return f", {done} of {found['pieces']} sellers, {listed} orders"


def of_all(jobs: Iterable[ReplayJob], nicks: Mapping[int, str]) -> Table:
    """A row for each job."""
    table = Table(
        (
            Column("replay", whole=True),
            Column("state", whole=True),
            Column("from (GMT+8)", whole=True),
            Column("to", whole=True, rank=2),
            Column("of", rank=1),
            Column("asked by", whole=True, rank=3),
            Column("outcome"),
        ),
        title="Replays, the newest first",
    )
    for job in jobs:
        span = job.wanted.what.span if isinstance(job.wanted.what, WantedSpan) else None
        table.add(
            job.id,
            standing(job),
            moment(span.start) if span else "",
            moment(span.end) if span else "",
            _of(job, nicks),
            job.asked_by or "",
            _in_short(job),
        )
    return table


def of_one(job: ReplayJob, nicks: Mapping[int, str]) -> Table:
    """All that is known about a job, but for what is listed in `details`."""
    table = facts(f"Replay {job.id}: {standing(job)}")
    wanted = job.wanted
    for name, value in _request(job, nicks):
        table.add(name, value)
    table.add("dry run", "yes" if wanted.dry_run else "no")
    table.add("asked by", job.asked_by or "unknown")
    table.add("asked at (GMT+8)", platform_time.format(job.requested_at))
    for name, value in _outcome(job).items():
        table.add(name, value)
    return table


def details(job: ReplayJob, by_seller: Sequence[SellerOutcome]) -> Iterable[Table]:
    """What was not fetched and why, and what came of each seller; tables that would be empty are left out."""
    missing = _not_fetched(job.outcome)
    if missing:
        table = Table((Column("orders", whole=True), Column("why"), Column("tids")), title="Not fetched")
        for reason, of_reason in sorted(missing.items(), key=lambda item: -item[1].orders):
            tids = ", ".join(map(str, of_reason.tids))
            more = of_reason.orders - len(of_reason.tids)
            table.add(
                str(of_reason.orders),
                MEANINGS.get(reason, reason),
                tids + (f" and {more} others" if more else ""),
            )
        yield table
    if by_seller:
        yield _sellers(by_seller)


def _sellers(by_seller: Sequence[SellerOutcome]) -> Table:
    table = Table(
        (
            Column("seller", whole=True),
            Column("nick", rank=1),
            Column("state", whole=True),
            Column("outcome"),
        ),
        title="By seller",
    )
    for each in by_seller:
        table.add(str(each.seller_id), each.nick or "not added", _state(each), _seller_in_short(each))
    return table


def _state(each: SellerOutcome) -> Cell:
    if each.failed:
        return Styled("failed", WRONG)
    return "done" if not each.waiting else f"{each.pieces - each.waiting} of {each.pieces}"


def _seller_in_short(each: SellerOutcome) -> str:
    found = replay_found.together(map(replay_found.read, each.outcomes))
    said = []
    if found.orders_asked is not None:
        fetched = "" if found.orders_fetched is None else f", {found.orders_fetched} fetched"
        said.append(f"{found.orders_asked} orders, {found.orders_held} held before{fetched}")
    if found.orders_listed is not None:
        said.append(f"{found.orders_listed} orders, {found.orders_to_fetch} to fetch")
    said += [f"{missing.orders} {reason}" for reason, missing in sorted(found.not_fetched.items())]
    said += sorted({str(outcome["error"]) for outcome in each.outcomes if "error" in outcome})
    return "; ".join(said)


def as_json(
    job: ReplayJob, nicks: Mapping[int, str], by_seller: Sequence[SellerOutcome] | None = None
) -> dict[str, object]:
    """A job for machines: what was asked for, its state, and what the notification says about it."""
    wanted = job.wanted
    span = wanted.what if isinstance(wanted.what, WantedSpan) else None
    orders = wanted.what if isinstance(wanted.what, WantedOrders) else None
    seller_id = wanted.one_seller
    document: dict[str, object] = {
        "replay": job.id,
        "seller_id": None if seller_id is None else str(seller_id),
        "nick": None if seller_id is None else nicks.get(seller_id),
        "start": span and span.span.start,
        "end": span and span.span.end,
        "orders": orders and orders.count,
        "named_by": orders and orders.named_by,
        "dry_run": wanted.dry_run,
        "asked_by": job.asked_by,
        "requested_at": job.requested_at,
        "finished_at": job.finished_at,
        **job.outcome,
        "state": standing(job),
    }
    if by_seller is not None:
        document["sellers"] = [
            {
                "seller_id": str(each.seller_id),
                "nick": each.nick,
                "pieces": each.pieces,
                "waiting": each.waiting,
                "failed": each.failed,
                **replay_found.together(map(replay_found.read, each.outcomes)).document(),
            }
            for each in by_seller
        ]
    return document


def _request(job: ReplayJob, nicks: Mapping[int, str]) -> Iterable[tuple[str, str]]:
    match job.wanted.what:
        case WantedSpan(span, seller_id):
            yield "seller", _of(job, nicks) if seller_id is None else f"{_of(job, nicks)} ({seller_id})"
            yield "from (GMT+8)", moment(span.start)
            yield "to (GMT+8)", moment(span.end)
        case WantedOrders(count, _, named_by):
            yield "orders", str(count)
            if named_by is not None:
                yield "which are", replay_lists.in_words(named_by)


def _of(job: ReplayJob, nicks: Mapping[int, str]) -> str:
    match job.wanted.what:
        case WantedSpan(_, None):
            return "all sellers"
        case WantedSpan(_, int(seller_id)):
            return nicks.get(seller_id) or str(seller_id)
        case WantedOrders(count, _, named_by):
            return f"{count} orders" + ("" if named_by is None else f", {replay_lists.in_words(named_by)}")
    raise AssertionError


def _in_short(job: ReplayJob) -> str:
    """The outcome of a job, in a sentence."""
    found = job.outcome
    parts = ["dry run"] if job.wanted.dry_run else []
    if "orders_listed" in found:
        parts.append(f"{found['orders_listed']} orders, {found['orders_to_fetch']} to fetch")
    if "orders_fetched" in found:
        parts.append(f"{found['orders_fetched']} fetched")
    parts += [str(found[name]) for name in ("error", "note") if name in found]
    if job.state is ReplayState.RUNNING:
        parts.append(how_far(job).removeprefix(", "))
    return "; ".join(filter(None, parts))


def _outcome(job: ReplayJob) -> dict[str, str]:
    shown = {
        name.replace("_", " "): moment(value) if name in MOMENTS else str(value)
        for name, value in job.outcome.items()
        if name not in ELSEWHERE
    }
    if job.wanted.dry_run and "orders_listed" in job.outcome:
        held = _count(job.outcome["orders_listed"]) - _count(job.outcome.get("orders_to_fetch"))
        shown = {"orders held already": str(held)} | shown
    return shown


def _not_fetched(outcome: Mapping[str, object]) -> Mapping[str, NotFetched]:
    return replay_found.read(outcome).not_fetched


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _instant(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def moment(value: object) -> str:
    """A time as the platform writes it; a value that is no time, unchanged."""
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(instant, datetime):
            return platform_time.format(instant)
    except (ValueError, OverflowError):
        pass
    return str(value)
