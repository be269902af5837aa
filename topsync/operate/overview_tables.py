"""The status of the installation, for people and for machines. Times are shown in GMT+8; no I/O.

The sellers come last, with the problems below them: the eye is at the end when everything is printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from schemas import platform_time
from topsync.base.terminal import Cell, Column, Styled, Table, facts
from topsync.model.kind import PARTS
from topsync.operate import seller_documents
from topsync.operate.overview import Overview, is_held_up, problems
from topsync.operate.seller_tables import state_of
from topsync.sellers import schemes
from topsync.sellers.status import SellerStatus
from topsync.store.push_connections import PushConnection

WRONG = "bold red"


def of(seen: Overview) -> Iterable[Table]:
    """The tables, in the order in which they are shown; empty tables are left out."""
    yield _services(seen)
    yield _push(seen)
    if seen.waiting:
        yield _waiting(seen)
    yield _budget(seen)
    yield _calendar(seen)
    if seen.calls:
        yield _calls(seen)
    yield _sellers(seen)


def _services(seen: Overview) -> Table:
    """Which services run where, and what the enrichers still have to do."""
    table = facts("Services")
    for service, running in seen.running.items():
        places = ", ".join(process.place for process in seen.processes if process.service == service)
        table.add(service, places if running else Styled("not running", WRONG))
    if seen.enrichers is None:
        table.add("lag", Styled("not known", WRONG))
        return table
    table.add("group of the enrichers", f"{seen.enrichers.name}: {seen.enrichers.members} members")
    for topic, records in seen.enrichers.lag.items():
        table.add(f"lag in {topic}", f"{records} records")
    return table


def _push(seen: Overview) -> Table:
    if not seen.push:
        table = facts("Push connections")
        if not seen.needs_push:
            table.add("push", "not needed: no seller's scheme has messages")
            return table
        table.add("push", Styled("down", WRONG))
        if seen.last_push is not None:
            table.add("last proof", platform_time.format(seen.last_push.last_proof_at))
            table.add("since then", seen.last_push.reason or "its process has stopped writing")
        return table
    table = Table(
        (Column("group"), Column("connected since (GMT+8)", whole=True), Column("last proof", whole=True)),
        title="Push connections",
    )
    for up in seen.push:
        table.add(
            up.channel_group,
            platform_time.format(up.connected_at),
            platform_time.format(up.last_proof_at),
        )
    return table


def _waiting(seen: Overview) -> Table:
    table = facts("Orders that wait, by reason")
    for reason, orders in sorted(seen.waiting.items()):
        table.add(reason, str(orders))
    return table


def _budget(seen: Overview) -> Table:
    limits = seen.limits
    table = facts("Call budget of all processes")
    table.add("calls a second", f"{limits.calls_per_second:g}")
    for api, calls_per_second in limits.api_calls_per_second.items():
        table.add(f"  {api}", f"{calls_per_second:g}")
    table.add("leased today", str(seen.spent_today))
    if limits.calls_per_day is not None:
        left = max(0, limits.calls_per_day - seen.spent_today)
        table.add("left today", f"{left}, the last {limits.live_reserve} for live changes")
    for ban in seen.bans:
        table.add(f"closed: {ban.scope}", Styled(f"until {platform_time.format(ban.until)} (GMT+8)", WRONG))
    for each in seen.circuits:
        since = platform_time.format(each.opened_at)
        text = f"{each.state.replace('_', ' ')} since {since} (GMT+8)"
        table.add(f"circuit {each.scope}", Styled(text, WRONG))
    return table


def _calendar(seen: Overview) -> Table:
    """What holds now, and from when something else will."""
    table, rules = facts("Sale-day calendar"), seen.calendar.at(seen.now)
    if seen.calendar_problem is not None:
        table.add("file", Styled("wrong", WRONG))
    table.add("sales that are on", ", ".join(rules.sales) or "none")
    if (coming := seen.calendar.next_sale(seen.now)) is not None:
        table.add("next", f"{coming.name}, {platform_time.format(coming.start)} (GMT+8)")
    table.add("visibility allowance", f"{rules.visibility.total_seconds():g} s")
    table.add("overlap", f"{rules.overlap.total_seconds():g} s")
    table.add(
        "sweeps", f"every {rules.sweep_interval.total_seconds():g} s" if rules.sweep_interval else "none"
    )
    return table


def _calls(seen: Overview) -> Table:
    table = facts("Gateway calls, latest day")
    for api, count in seen.calls.items():
        table.add(api, str(count))
    return table


def _sellers(seen: Overview) -> Table:
    states = Counter(stands.seller.state.value for stands in seen.sellers)
    counts = [f"{count} {state}" for state, count in states.items()]
    table = Table(
        (
            Column("id", whole=True),
            Column("nick"),
            Column("state", whole=True),
            Column("complete until", whole=True),
            Column("gaps", whole=True),
            Column("waiting", whole=True, rank=1),
            Column("parked", whole=True, rank=2),
            Column("orders", whole=True, rank=3),
            Column("note", rank=4),
        ),
        title=f"Sellers: {', '.join(counts) or 'none'} (times are GMT+8)",
    )
    for stands in seen.sellers:
        table.add(
            str(stands.seller.seller_id),
            stands.seller.nick,
            state_of(stands.seller),
            _complete_until(stands),
            _gaps(stands),
            str(stands.waiting),
            str(stands.parked),
            str(stands.orders),
            "; ".join(_notes(stands, seen)),
        )
    return table


def _complete_until(stands: SellerStatus) -> Cell:
    if stands.complete_until is None:
        return "not bootstrapped"
    text = platform_time.format(stands.complete_until) + stands.proven_in
    return Styled(text, WRONG) if stands.proven_in else text


def _gaps(stands: SellerStatus) -> Cell:
    """Holes and open gaps. For a seller that is held up, no number: a gap will open when it is back."""
    if is_held_up(stands):
        return Styled("held up", WRONG)
    count = len(stands.holes) + len(stands.open_gaps)
    return Styled(str(count), WRONG) if count else "0"


def _notes(stands: SellerStatus, seen: Overview) -> Iterable[str]:
    if stands.seller.reason:
        yield stands.seller.reason
    if schemes.is_polled(stands.seller, seen.scheme):
        yield f"polled every {seen.poll_interval.total_seconds():g} s"
    if stands.complete_until is not None:
        yield from (f"without {kind.plural}" for kind in PARTS if kind not in stands.parts)


def document(seen: Overview) -> seller_documents.Document:
    """The same for machines: `status --json`. The keys are a contract (docs/operations.md)."""
    return {
        "problems": problems(seen),
        "services": [
            {"service": process.service, "place": process.place, "since": process.since}
            for process in seen.processes
        ],
        "push": {
            "needed": seen.needs_push,
            "connections": [_connection(up) for up in seen.push],
            "last": None if seen.last_push is None else _connection(seen.last_push),
        },
        "enrichers": None
        if seen.enrichers is None
        else {
            "group": seen.enrichers.name,
            "members": seen.enrichers.members,
            "lag": dict(seen.enrichers.lag),
        },
        "waiting_orders": dict(seen.waiting),
        "budget": {
            "calls_per_second": seen.limits.calls_per_second,
            "calls_per_day": seen.limits.calls_per_day,
            "leased_today": seen.spent_today,
            "bans": [{"scope": ban.scope, "until": ban.until} for ban in seen.bans],
            "circuits": [
                {
                    "scope": each.scope,
                    "state": each.state.value,
                    "opened_at": each.opened_at,
                    "calls": each.evidence.calls,
                    "failed": each.evidence.failed,
                }
                for each in seen.circuits
            ],
        },
        "calendar": _calendar_document(seen),
        "calls": dict(seen.calls),
        "sellers": [
            {
                "seller_id": str(stands.seller.seller_id),
                "nick": stands.seller.nick,
                "state": stands.seller.state.value,
                "state_since": stands.seller.since,
                "reason": stands.seller.reason,
                "held_up": is_held_up(stands),
            }
            | seller_documents.of_scheme(stands.seller, seen.scheme)
            | seller_documents.of_standing(stands)
            for stands in seen.sellers
        ],
    }


def _calendar_document(seen: Overview) -> seller_documents.Document:
    rules, coming = seen.calendar.at(seen.now), seen.calendar.next_sale(seen.now)
    return {
        "problem": seen.calendar_problem,
        "sales": list(rules.sales),
        "next": None if coming is None else {"sale": coming.name, "start": coming.start},
        "visibility_allowance_seconds": rules.visibility.total_seconds(),
        "overlap_seconds": rules.overlap.total_seconds(),
        "sweep_interval_seconds": rules.sweep_interval.total_seconds(),
        "retry_failures_after_seconds": rules.failure_wait.total_seconds(),
        "circuit_share": rules.circuit.opens_above,
    }


def _connection(connection: PushConnection) -> seller_documents.Document:
    return {
        "group": connection.channel_group,
        "connected_at": connection.connected_at,
        "last_proof_at": connection.last_proof_at,
        "lost_at": connection.lost_at,
        "reason": connection.reason,
        "cause": connection.cause,
    }
