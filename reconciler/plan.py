"""What to pull next for a seller, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final

from schemas.change import Source
from topsync.coverage import spans
from topsync.model.calendar import Calendar
from topsync.model.gap import Gap
from topsync.model.span import Span
from topsync.platforms.port import ListRules

NOBODY_KNOWS: Final = datetime.min.replace(tzinfo=UTC)
"""Since when a seller waits that was never pulled: it is the first of its kind."""


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


class TurnKind(IntEnum):
    """What a seller waits for, the most urgent first."""

    POLL = 0
    """Its changes: it has no messages."""
    FRESH = 1
    """The first pull of a gap, for freshness."""
    PROOF = 2
    """A gap that was pulled, and could be proven by now."""
    SWEEP = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """A seller waits for a pull. Times are platform time."""

    kind: TurnKind
    since: datetime
    """Since when it waits; the earliest moment there is, where nobody knows."""
    gaps: Sequence[Gap] = ()
    """The gaps that are due."""

    @property
    def newest(self) -> datetime:
        """Up to when changes are missing."""
        return max((gap.ended for gap in self.gaps if gap.ended is not None), default=self.since)


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull up to now."""

    start: datetime
    source: Source
    reason: str
    comes_again: bool = False
    """Whether the next one comes by itself."""


def due(
    gaps: Sequence[Gap], pulled_at: datetime | None, rules: PullRules, *, is_polled: bool, now: datetime
) -> Turn | None:
    """What a seller waits for now, at its most urgent; None where there is nothing to do.

    A gap is pulled at once when push is back, for freshness, and again when it is old enough to be proven.

    A seller without messages (`is_polled`) is polled: the same pull as a sweep, from the end of what is
    proven, but for another reason. A sweep moves the proof forward behind changes that messages have brought,
    so everything else goes first; a poll is all that brings the changes. To the contract, the time since the
    last poll is a gap like any other: push did not work in it. So polls, and the fetches that they ask for,
    have the source and the priority of gaps: they wait neither for bulk starts nor for replays.

    `pulled_at` is when the seller was last pulled up to that moment, whatever the reason.
    """
    found = [(since, gap) for gap in gaps if (since := _due_since(gap, rules, now)) is not None]
    if found:
        is_first = any(gap.pulled_at is None for _, gap in found)
        return Turn(
            TurnKind.FRESH if is_first else TurnKind.PROOF,
            min(since for since, _ in found),
            [gap for _, gap in found],
        )
    interval = rules.poll_interval if is_polled else rules.sweep_interval
    if not interval or (pulled_at is not None and not _has_passed(interval, pulled_at, now)):
        return None
    return Turn(
        TurnKind.POLL if is_polled else TurnKind.SWEEP,
        NOBODY_KNOWS if pulled_at is None else pulled_at + interval,
    )


def pull(turn: Turn, proven: Sequence[Span], rules: PullRules, *, now: datetime) -> Pull | None:
    """The pull that a turn asks for, of a seller of which this much is proven; None before its bulk start.

    What the platform no longer lists is left out: if asked for that, it would refuse the whole pull.
    """
    if not proven:
        return None
    oldest = rules.lists.oldest(now)
    if turn.gaps:
        # What a former pull of the same gap has proven is not listed again.
        unproven = spans.proven_from(proven, min(gap.began for gap in turn.gaps))
        began = max(unproven, oldest)
        start = began - rules.calendar.overlap(began, now=now)
        reason = "gap " + ",".join(str(gap.id) for gap in turn.gaps)
        return Pull(max(start, oldest), Source.GAP, reason)
    proven_to = spans.proven_from(proven, oldest)
    start = max(proven_to - rules.calendar.overlap(proven_to, now=now), oldest)
    source, reason = (Source.GAP, "poll") if turn.kind is TurnKind.POLL else (Source.SWEEP, "sweep")
    return Pull(start, source, reason, comes_again=True)


def _due_since(gap: Gap, rules: PullRules, now: datetime) -> datetime | None:
    """Since when a gap is to be pulled; None where it is not."""
    if gap.ended is None:
        return None
    if gap.pulled_at is None:
        return gap.ended
    provable_at = gap.ended + rules.calendar.visibility_allowance(gap.ended)
    if gap.pulled_at < provable_at:
        return provable_at if now >= provable_at else None
    return gap.pulled_at + rules.gap_retry if _has_passed(rules.gap_retry, gap.pulled_at, now) else None


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
