"""The status of the installation, for people and for machines. Times are shown in GMT+8; no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from schemas import platform_time
from topsync.base.terminal import Cell, Column, Styled, Table, facts
from topsync.model.kind import PARTS
from topsync.operate import seller_documents
from topsync.operate.findings import Finding, Severity
from topsync.operate.overview import Overview, is_held_up
from topsync.operate.pulling_status import Because
from topsync.operate.seller_tables import state_of
from topsync.sellers import schemes
from topsync.sellers.status import SellerStatus
from topsync.store.push_connections import PushConnection

MOST_SELLERS: Final = 100
"""Sellers that are shown, the worst first; of the others, the number is named."""

MARKS: Final = {Severity.BEHIND: "~", Severity.NOTE: "-"}
"""What a finding begins with; where a person is needed, an exclamation mark."""

WRONG = "bold red"


def of(seen: Overview, found: Sequence[Finding]) -> Iterable[Table]:
    """The tables, in the order in which they are shown; empty tables are left out."""
    yield _services(seen)
    yield _push(seen)
    if seen.waiting:
        yield _waiting(seen)
    if seen.letters:
        yield _letters(seen)
    yield _budget(seen)
    yield _calendar(seen)
    if seen.calls:
        yield _calls(seen)
    yield _sellers(seen, found)


def lines(found: Sequence[Finding], seen: Overview) -> Iterable[str]:
    """The findings, a line each: they hold commands, which a table would break."""
    about_sellers = 0
    for finding in found:
        about_sellers += bool(finding.seller_id)
        if about_sellers > MOST_SELLERS and finding.seller_id:
            continue
        yield f"{MARKS.get(finding.severity, '!')} {finding.text(seen.now)}"
    if about_sellers > MOST_SELLERS:
        more = about_sellers - MOST_SELLERS
        yield f"! {more} more findings about sellers; see those of one: topsync status --seller ID"


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
        trend = seen.trends.get(f"lag in {topic}")
        words = f", {trend.words}" if trend and trend.words else ""
        table.add(f"lag in {topic}", f"{records} records{words}")
    return table


def _push(seen: Overview) -> Table:
    if not seen.push:
        table = facts("Push connections")
        if not seen.push_is_needed:
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
    for reason, orders in sorted(seen.waiting_by_reason.items()):
        table.add(reason, str(orders))
    for name in ("waiting", "parked"):
        trend = seen.trends.get(name)
        if trend is not None and trend.words:
            table.add(f"all {name}", f"{trend.count}, {trend.words}")
    return table


def _letters(seen: Overview) -> Table:
    table = facts("Open dead letters about orders, by reason")
    for reason, letters in Counter(_by_reason(seen)).most_common():
        table.add(reason, str(letters))
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
    table.add("visibility allowance", _allowance(seen))
    table.add("overlap", f"{rules.overlap.total_seconds():g} s")
    table.add("sweeps", _sweeps(seen))
    return table


def _allowance(seen: Overview) -> str:
    """How long it is, and why."""
    stands = seen.visibility
    text = f"{stands.allowance.total_seconds():g} s, {stands.because}"
    if stands.because is Because.LEARNED:
        since = f" since {platform_time.format(stands.since)} (GMT+8)" if stands.since else ""
        text += f"{since}, instead of {stands.otherwise.total_seconds():g} s"
    return text + ("" if stands.is_learning else "; learning is off")


def _sweeps(seen: Overview) -> Cell:
    wanted = seen.calendar.at(seen.now).sweep_interval
    if not wanted:
        return "none"
    text = f"every {wanted.total_seconds():g} s"
    if seen.sweeps is None or not seen.sweeps.is_stretched:
        return text
    return Styled(f"{text}, stretched to {seen.sweeps.interval.total_seconds():.0f} s", WRONG)


def _calls(seen: Overview) -> Table:
    table = facts("Gateway calls, latest day")
    for api, count in seen.calls.items():
        table.add(api, str(count))
    return table


def worst_first(seen: Overview, found: Sequence[Finding]) -> list[SellerStatus]:
    """The sellers, those with the worst findings first, and then those that are complete up to the earliest
    moment.
    """
    worst: dict[int, int] = {}
    for finding in found:
        if finding.seller_id is not None:
            worst[finding.seller_id] = min(finding.severity, worst.get(finding.seller_id, len(Severity)))

    def rank(stands: SellerStatus) -> tuple[int, bool, float, int]:
        until = stands.complete_until
        severity = worst.get(stands.seller.seller_id, len(Severity))
        return severity, until is not None, until.timestamp() if until else 0.0, stands.seller.seller_id

    return sorted(seen.sellers, key=rank)


def _sellers(seen: Overview, found: Sequence[Finding]) -> Table:
    states = Counter(stands.seller.state.value for stands in seen.sellers)
    counts = [f"{count} {state}" for state, count in states.items()]
    shown = worst_first(seen, found)[:MOST_SELLERS]
    notes = {stands.seller.seller_id: "; ".join(_notes(stands, seen)) for stands in shown}
    # An empty column would take its room from the nicks.
    noted = (Column("note", rank=4),) if any(notes.values()) else ()
    first = f"; the first {len(shown)}, worst first" if len(shown) < len(seen.sellers) else ""
    table = Table(
        (
            Column("id", whole=True),
            Column("nick"),
            Column("state", whole=True),
            Column("complete until", whole=True),
            Column("gaps", whole=True),
            Column("waiting", whole=True, rank=1),
            Column("parked", whole=True, rank=2),
            *noted,
        ),
        title=f"Sellers: {', '.join(counts) or 'none'} (times are GMT+8){first}",
    )
    for stands in shown:
        table.add(
            str(stands.seller.seller_id),
            stands.seller.nick,
            state_of(stands.seller),
            _complete_until(stands),
            _gaps(stands),
            str(stands.waiting),
            str(stands.parked),
            *([notes[stands.seller.seller_id]] if noted else []),
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


def document(seen: Overview, found: Sequence[Finding], verdict: str) -> seller_documents.Document:
    """The same for machines: `status --json`. The keys are a contract (docs/operations.md)."""
    shown = worst_first(seen, found)[:MOST_SELLERS]
    return {
        "verdict": verdict,
        "findings": [_finding(finding) for finding in found],
        "problems": [finding.text(seen.now) for finding in found if finding.severity.needs_a_person],
        "trends": {
            name: {"count": trend.count, "per_second": trend.per_second}
            for name, trend in seen.trends.items()
        },
        "services": [
            {"service": process.service, "place": process.place, "since": process.since}
            for process in seen.processes
        ],
        "push": {
            "needed": seen.push_is_needed,
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
        "waiting_orders": seen.waiting_by_reason,
        "dead_letters": _by_reason(seen),
        "bulk_starts": [
            {"seller_id": str(start.seller_id), "started_at": start.started_at} for start in seen.bulk_starts
        ],
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
        "visibility": _visibility_document(seen),
        "sweeps": None
        if seen.sweeps is None
        else {
            "wanted_seconds": seen.sweeps.wanted.total_seconds(),
            "interval_seconds": seen.sweeps.interval.total_seconds(),
            "stretched": seen.sweeps.is_stretched,
        },
        "calls": dict(seen.calls),
        "sellers": [_seller(stands, seen) for stands in shown],
        "sellers_not_shown": len(seen.sellers) - len(shown),
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


def _visibility_document(seen: Overview) -> seller_documents.Document:
    stands = seen.visibility
    last = stands.last_raising
    return {
        "allowance_seconds": stands.allowance.total_seconds(),
        "because": stands.because.value,
        "otherwise_seconds": stands.otherwise.total_seconds(),
        "learned_seconds": stands.learned.total_seconds(),
        "since": stands.since,
        "learning": stands.is_learning,
        "most_seconds": stands.most.total_seconds(),
        "last_raising": None
        if last is None
        else {
            "at": last.at,
            "before_seconds": last.before.total_seconds(),
            "allowance_seconds": last.allowance.total_seconds(),
            "seller_id": None if last.seller_id is None else str(last.seller_id),
            "kind": None if last.kind is None else last.kind.value,
            "id": None if last.object_id is None else str(last.object_id),
            "modified": last.modified,
            "lacked_at": last.lacked_at,
            "shown_at": last.shown_at,
            "taken_back_from": last.taken_from,
            "taken_back_sellers": last.taken_of,
        },
        "last_day": [
            {"seconds": step, "shown": counts.shown, "lacked": counts.lacked}
            for step, counts in (stands.last_day or {}).items()
        ],
    }


def _finding(finding: Finding) -> seller_documents.Document:
    return {
        "severity": finding.severity.name.lower(),
        "needs_a_person": finding.severity.needs_a_person,
        "what": finding.what,
        "since": finding.since,
        "do": finding.do or None,
        "seller_id": None if finding.seller_id is None else str(finding.seller_id),
    }


def _by_reason(seen: Overview) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for each in seen.letters:
        counted[each.reason] += each.letters
    return dict(counted)


def _seller(stands: SellerStatus, seen: Overview) -> seller_documents.Document:
    return (
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
    )


def _connection(connection: PushConnection) -> seller_documents.Document:
    return {
        "group": connection.channel_group,
        "connected_at": connection.connected_at,
        "last_proof_at": connection.last_proof_at,
        "lost_at": connection.lost_at,
        "reason": connection.reason,
        "cause": connection.cause,
    }
