"""What to pull next for a seller, without I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.change import Source
from topsync.coverage import spans
from topsync.model.calendar import Calendar
from topsync.model.gap import Gap
from topsync.model.span import Span
from topsync.platforms.port import ListRules


@dataclass(frozen=True, slots=True)
class PullRules:
    """The settings that decide."""

    lists: ListRules
    """Of the list of orders."""
    calendar: Calendar
    sweep_interval: timedelta
    """Zero: no sweeps."""
    poll_interval: timedelta
    """For sellers without messages. Above zero."""
    gap_retry: timedelta
    """How long to wait with a gap whose last pull did not prove it although it was old enough."""


@dataclass(frozen=True, slots=True)
class SellerCoverage:
    """What is known about a seller. Times are platform time."""

    proven: Sequence[Span]
    gaps: Sequence[Gap]
    """The open gaps."""
    pulled_at: datetime | None
    """When it was last pulled up to that moment, whatever the reason."""
    is_polled: bool = False
    """Whether pulls alone bring its changes, without messages."""


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull up to now."""

    start: datetime
    source: Source
    reason: str
    gaps: Sequence[Gap] = ()
    comes_again: bool = False
    """Whether the next one comes by itself."""


def next_pull(standing: SellerCoverage, rules: PullRules, *, now: datetime) -> Pull | None:
    """The most urgent pull that is due; None where there is nothing to do, or no bootstrap yet.

    A gap is pulled at once when push is back, for freshness, and again when it is old enough to be proven.
    What the platform no longer lists is left out: if asked for that, it would refuse the whole pull.

    A seller without messages is polled: the same pull as a sweep, from the end of what is proven, but for
    another reason. A sweep moves the proof forward behind changes that messages have brought, so everything
    else goes first; a poll is all that brings the changes. To the contract, the time since the last poll is a
    gap like any other: push did not work in it. So polls, and the fetches that they ask for, have the source
    and the priority of gaps: they wait neither for bulk starts nor for replays.
    """
    if not standing.proven:
        return None
    oldest = rules.lists.oldest(now)
    due = [gap for gap in standing.gaps if _is_due(gap, rules, now)]
    if due:
        began = max(min(gap.began for gap in due), oldest)
        start = began - rules.calendar.overlap(began, now=now)
        return Pull(max(start, oldest), Source.GAP, "gap " + ",".join(str(gap.id) for gap in due), due)
    interval = rules.poll_interval if standing.is_polled else rules.sweep_interval
    if interval and (standing.pulled_at is None or _has_passed(interval, standing.pulled_at, now)):
        proven_to = spans.proven_from(standing.proven, oldest)
        start = max(proven_to - rules.calendar.overlap(proven_to, now=now), oldest)
        source, reason = (Source.GAP, "poll") if standing.is_polled else (Source.SWEEP, "sweep")
        return Pull(start, source, reason, comes_again=True)
    return None


def in_order(pulls: Mapping[int, Pull], pulled_at: Mapping[int, datetime]) -> list[tuple[int, Pull]]:
    """Sellers with their pulls, in the order in which they are served: gaps and polls first, then sweeps.

    Of each, the seller that was served longest ago is next. If the longest missing time decided, sellers
    that cannot be pulled would take every turn.
    """

    def turn(item: tuple[int, Pull]) -> tuple[bool, bool, datetime, int]:
        seller_id, pull = item
        served = pulled_at.get(seller_id)
        return pull.source is not Source.GAP, served is not None, served or pull.start, seller_id

    return sorted(pulls.items(), key=turn)


def _is_due(gap: Gap, rules: PullRules, now: datetime) -> bool:
    if gap.ended is None:
        return False
    if gap.pulled_at is None:
        return True
    provable_at = gap.ended + rules.calendar.visibility_allowance(gap.ended)
    if gap.pulled_at < provable_at:
        return now >= provable_at
    return _has_passed(rules.gap_retry, gap.pulled_at, now)


def _has_passed(interval: timedelta, since: datetime, now: datetime) -> bool:
    """Whether so much time has passed, or the time is not known: the platform's clock was set back."""
    return not timedelta(0) <= now - since < interval


def closed(gaps: Sequence[Gap], proven: Sequence[Span], rules: PullRules, *, now: datetime) -> list[Gap]:
    """The gaps that are proven complete, as far as that can be done.

    Nobody claims what lies before the bulk start's first day. What the platform no longer lists stays a
    hole in what is proven, and is no reason to pull the rest again and again.
    """
    if not proven:
        return []
    first = max(proven[0].start, rules.lists.oldest(now))
    return [
        gap
        for gap in gaps
        if gap.ended is not None
        and (gap.ended <= first or spans.covers(proven, Span(max(gap.began, first), gap.ended)))
    ]
