"""What is to be said about the installation, the worst first: what, since when, and what to do. Pure.

A source is a function from what was seen to findings. To add some, write another and enter it in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from schemas import platform_time
from topsync.base import durations
from topsync.model import anomaly_words
from topsync.model.anomaly import AnomalyKind
from topsync.operate.overview import Overview, is_held_up
from topsync.operate.pulling_status import Because
from topsync.sellers import schemes, session_rules
from topsync.sellers.status import SellerStatus
from topsync.store.push_connections import PushConnection
from topsync.store.sellers import SellerState


class Severity(IntEnum):
    """How bad it is; the smallest value is the worst."""

    BROKEN = 0
    """Changes of every seller are late or missing until somebody does something."""
    HELD_UP = 1
    """One seller is not complete until somebody does something."""
    TO_DO = 2
    """Somebody has to decide something; everything else goes on."""
    BEHIND = 3
    """topsync is working on it, and nobody has to do anything."""
    NOTE = 4
    """Good to know."""

    @property
    def needs_a_person(self) -> bool:
        """Whether it stays so until somebody does something."""
        return self <= Severity.TO_DO


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say."""

    severity: Severity
    what: str
    """In a few words, with what it is about; of a seller, without its name."""
    since: datetime | None = None
    do: str = ""
    """What to do, where somebody has to."""
    seller_id: int | None = None
    seller: str = ""
    """Its nick, where it is about a seller."""
    more: str = ""
    """What follows from it, in a few words."""

    def text(self, now: datetime) -> str:
        """The finding as a line."""
        whose = f"{self.seller} ({self.seller_id}): " if self.seller else ""
        return f"{whose}{self.in_short(now)}" + (f"; {self.do}" if self.do else "")

    def in_short(self, now: datetime) -> str:
        """What it is and since when, without whose it is and what to do."""
        since = "" if self.since is None else f" since {moment(self.since, now)}"
        return f"{self.what}{since}" + (f", {self.more}" if self.more else "")


Source = Callable[[Overview], Iterable[Finding]]


def moment(instant: datetime, now: datetime) -> str:
    """A moment in GMT+8, without its day where that is today."""
    written = platform_time.format(instant)
    day, _, clock = written.partition(" ")
    return clock if platform_time.format(now).startswith(day) else written


def _services(seen: Overview) -> Iterable[Finding]:
    effects = {
        "push": "no message arrives",
        "enrich": "nothing is fetched or published",
        "reconcile": "gaps, sweeps and replays stand still",
    }
    for service in seen.services:
        if not seen.running[service]:
            yield Finding(
                Severity.BROKEN,
                f"no process of `topsync {service}` is running, so {effects[service]}",
                do="start it, and look at its log",
            )


def _push(seen: Overview) -> Iterable[Finding]:
    if seen.push or not seen.push_is_needed:
        return
    yield Finding(Severity.BROKEN, f"push is down: {_last_push(seen.last_push, seen.now)}")


def _last_push(last: PushConnection | None, now: datetime) -> str:
    if last is None:
        return "it was never connected"
    why = last.reason or "its process stopped writing"
    return f"its last proof of life is of {moment(last.last_proof_at, now)} (GMT+8), then: {why}"


def _kafka(seen: Overview) -> Iterable[Finding]:
    if seen.kafka_problem is not None:
        yield Finding(Severity.BROKEN, f"Kafka: {seen.kafka_problem}")


def _topics(seen: Overview) -> Iterable[Finding]:
    for sentence in seen.lost:
        yield Finding(Severity.BROKEN, sentence)
    if seen.republication is not None:
        yield Finding(Severity.BEHIND, seen.republication)


def _budget(seen: Overview) -> Iterable[Finding]:
    for ban in seen.bans:
        left = durations.text((ban.until - seen.now).total_seconds())
        until = moment(ban.until, seen.now)
        yield Finding(
            Severity.BEHIND, f"the platform has closed {ban.scope} until {until} (GMT+8), for {left} more"
        )
    quota = seen.limits.calls_per_day
    if quota is not None and (left_today := quota - seen.spent_today) <= seen.limits.live_reserve:
        what = "are left" if left_today > 0 else "is left: nothing is fetched until midnight (GMT+8)"
        count = (
            f"only {left_today} calls of the day, for live changes alone," if left_today > 0 else "no call"
        )
        yield Finding(
            Severity.TO_DO,
            f"{count} {what}",
            do="see who used them: `topsync budget`",
        )


def _circuits(seen: Overview) -> Iterable[Finding]:
    for each in seen.circuits:
        yield Finding(
            Severity.BEHIND,
            f"too many calls fail: the circuit {each.scope} is {each.state.replace('_', ' ')}, and pulls are "
            "held back",
            each.opened_at,
            more="it closes by itself",
        )


def _calendar(seen: Overview) -> Iterable[Finding]:
    if seen.calendar_problem is not None:
        yield Finding(Severity.TO_DO, f"the sale-day calendar is wrong: {seen.calendar_problem}")


def _late_lists(seen: Overview) -> Iterable[Finding]:
    stands = seen.visibility
    if stands.is_too_short:
        yield Finding(
            Severity.TO_DO,
            f"lists were later ({durations.text(stands.longest.total_seconds())}) than the longest "
            f"visibility allowance that may be learnt ({durations.text(stands.most.total_seconds())})",
            do="set TOPSYNC_VISIBILITY_MOST_SECONDS to more, unless a single order was hidden for so long",
        )
    if stands.because is Because.LEARNED:
        yield Finding(
            Severity.BEHIND,
            f"lists were late: the visibility allowance is {stands.allowance.total_seconds():g} s instead of "
            f"{stands.otherwise.total_seconds():g} s",
            stands.since,
            more="it comes down by itself",
        )


def _sweeps(seen: Overview) -> Iterable[Finding]:
    """Where no reconciler runs, that is what is said."""
    stands = seen.sweeps
    if stands is not None and stands.is_stretched and seen.running["reconcile"]:
        yield Finding(
            Severity.BEHIND,
            f"sweeps are stretched: they are {durations.text(stands.interval.total_seconds())} apart instead "
            f"of {durations.text(stands.wanted.total_seconds())}, because the calls, or "
            "TOPSYNC_RECONCILE_PARALLEL_SELLERS, do not suffice",
        )


def _lag(seen: Overview) -> Iterable[Finding]:
    for name, trend in seen.trends.items():
        if trend.count and name.startswith("lag in "):
            words = f", {trend.words}" if trend.words else ""
            yield Finding(
                Severity.BEHIND, f"{name.removeprefix('lag in ')}: {trend.count} records unread{words}"
            )


def _sellers(seen: Overview) -> Iterable[Finding]:
    for stands in seen.sellers:
        finding = _away(stands) if is_held_up(stands) else _late(stands, seen)
        if finding is not None:
            yield finding


def _away(stands: SellerStatus) -> Finding:
    seller = stands.seller
    more = f"{_number(stands.parked, 'order')} parked" if stands.parked else ""
    if seller.state is SellerState.EXPIRED:
        return Finding(
            Severity.HELD_UP,
            _refusal(seller.reason),
            since=seller.since,
            do=session_rules.what_to_do(seller, now=None),
            seller_id=seller.seller_id,
            seller=seller.nick,
            more=more,
        )
    return Finding(
        Severity.HELD_UP,
        f"paused by an operator ({seller.reason or 'no reason given'})",
        since=seller.since,
        do=f"when it may go on: `topsync sellers resume {seller.seller_id}`",
        seller_id=seller.seller_id,
        seller=seller.nick,
        more=more,
    )


def _refusal(reason: str | None) -> str:
    return "session refused" if reason is None else f"session refused ({reason})"


def _late(stands: SellerStatus, seen: Overview) -> Finding | None:
    """Whether pulls of a seller prove nothing: no message and no lost connection would show it."""
    seller, proven_to = stands.seller, stands.proven_to
    if seller.state is SellerState.ERASED or proven_to is None:
        return None
    polled = schemes.is_polled(seller, seen.scheme)
    late_after = seen.polls_are_late_after if polled else seen.sweeps_are_late_after
    if late_after is None or seen.now - proven_to <= late_after:
        return None
    if polled:
        what = "no messages, and no poll has proven anything"
        do = (
            "is `topsync reconcile` running, and what does it log? It polls every "
            f"{seen.poll_interval.total_seconds():g} s"
        )
        return Finding(Severity.HELD_UP, what, proven_to, do, seller.seller_id, seller.nick)
    return Finding(
        Severity.BEHIND,
        "no sweep has proven anything",
        proven_to,
        seller_id=seller.seller_id,
        seller=seller.nick,
    )


def _gaps(seen: Overview) -> Iterable[Finding]:
    """Gaps that nobody has to close, in one line: those of sellers that are away wait for them."""
    pulled = [stands for stands in seen.sellers if stands.open_gaps and not is_held_up(stands)]
    if pulled:
        open_ = [gap for stands in pulled for gap in stands.open_gaps]
        trend = seen.trends.get("open gaps")
        words = f", {trend.words}" if trend and trend.words else ""
        yield Finding(
            Severity.BEHIND,
            f"{_number(len(open_), 'gap')} of {_number(len(pulled), 'seller')} being closed{words}",
            min(gap.began for gap in open_),
            "see `topsync gaps`",
        )
    for stands in seen.sellers:
        if stands.holes and not is_held_up(stands):
            yield Finding(
                Severity.BEHIND,
                f"{_number(len(stands.holes), 'hole')} in what is proven",
                stands.complete_until,
                f"see `topsync coverage --seller {stands.seller.seller_id}`",
                stands.seller.seller_id,
                stands.seller.nick,
            )


def _letters(seen: Overview) -> Iterable[Finding]:
    by_reason: dict[str, tuple[int, datetime]] = {}
    for each in seen.letters:
        count, since = by_reason.get(each.reason, (0, each.since))
        by_reason[each.reason] = (count + each.letters, min(since, each.since))
    for reason, (count, since) in by_reason.items():
        yield Finding(
            Severity.TO_DO,
            f"{_number(count, 'order')} with an open dead letter for the reason {reason}",
            since,
            f"see `topsync deadletter list --reason {reason}`",
        )


def _waiting(seen: Overview) -> Iterable[Finding]:
    trend = seen.trends.get("waiting")
    if trend is not None and trend.count:
        words = f", {trend.words}" if trend.words else ""
        reasons = ", ".join(
            f"{orders} {reason}"
            for reason, orders in sorted(_unparked(seen).items(), key=lambda item: -item[1])
        )
        yield Finding(
            Severity.BEHIND, f"{_number(trend.count, 'order')} to be asked for again ({reasons}){words}"
        )


def _unparked(seen: Overview) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for each in seen.waiting:
        if not each.parked:
            found[each.reason] = found.get(each.reason, 0) + each.orders
    return found


def _bulk_starts(seen: Overview) -> Iterable[Finding]:
    if seen.bulk_starts:
        yield Finding(
            Severity.NOTE,
            f"{_number(len(seen.bulk_starts), 'bulk start')} under way, the oldest",
            min(start.started_at for start in seen.bulk_starts),
        )


def _sessions(seen: Overview) -> Iterable[Finding]:
    """Sessions that end soon and that topsync cannot refresh."""
    for stands in seen.sellers:
        seller = stands.seller
        if is_held_up(stands) or session_rules.can_refresh(seller, now=seen.now):
            continue
        ends = seller.life.ends_at
        if ends is not None and ends - seen.now <= ENDS_SOON:
            left = durations.text((ends - seen.now).total_seconds())
            yield Finding(
                Severity.TO_DO,
                f"its session ends in {left}",
                do=f"run `topsync sellers authorise {seller.seller_id}` before",
                seller_id=seller.seller_id,
                seller=seller.nick,
            )


def _anomalies(seen: Overview) -> Iterable[Finding]:
    """Each silent shop by itself; of what nobody knows, a line for each kind."""
    nicks = {stands.seller.seller_id: stands.seller.nick for stands in seen.sellers}
    first: dict[AnomalyKind, int] = {}
    for each in seen.anomalies:
        if each.kind is AnomalyKind.SILENT_SHOP and each.seller_id is not None:
            yield Finding(
                Severity.TO_DO,
                anomaly_words.what(each),
                each.first_at,
                anomaly_words.DO[each.kind],
                each.seller_id,
                nicks.get(each.seller_id, ""),
            )
            continue
        first[each.kind] = first.get(each.kind, 0) + 1
    for kind, count in first.items():
        oldest = next(each for each in seen.anomalies if each.kind is kind)
        yield Finding(
            ODD[kind],
            anomaly_words.what(oldest) + (f", and {count - 1} more like it" if count > 1 else ""),
            oldest.first_at,
            anomaly_words.DO[kind],
        )


ODD: Final[Mapping[AnomalyKind, Severity]] = {
    AnomalyKind.UNKNOWN_CODE: Severity.TO_DO,
    AnomalyKind.UNKNOWN_FIELD: Severity.NOTE,
    AnomalyKind.UNKNOWN_TYPE: Severity.TO_DO,
    AnomalyKind.UNLISTED_TYPE: Severity.TO_DO,
    AnomalyKind.SILENT_SHOP: Severity.TO_DO,
    AnomalyKind.BEHIND_ANSWERS: Severity.BEHIND,
}
"""How bad anomalies are. Nothing is lost by a field that nobody knows."""

ENDS_SOON: Final = timedelta(days=7)

SOURCES: Final[tuple[Source, ...]] = (
    _services,
    _push,
    _kafka,
    _topics,
    _sellers,
    _letters,
    _sessions,
    _anomalies,
    _calendar,
    _late_lists,
    _budget,
    _circuits,
    _sweeps,
    _gaps,
    _lag,
    _waiting,
    _bulk_starts,
)


def of(seen: Overview) -> list[Finding]:
    """Everything there is to say, the worst first; among equals, what began first."""
    found = [finding for source in SOURCES for finding in source(seen)]
    order = {id(finding): at for at, finding in enumerate(found)}
    return sorted(
        found,
        key=lambda each: (
            each.severity,
            each.since is not None,
            each.since.timestamp() if each.since else 0,
            order[id(each)],
        ),
    )


def needs_a_person(found: Iterable[Finding]) -> bool:
    """Whether anything stays as it is until somebody does something."""
    return any(finding.severity.needs_a_person for finding in found)


def _number(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
