"""Arithmetic of the coverage ledger: what a pull proves, where the holes are. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from topsync.model.span import Span


def proof(span: Span, *, asked_at: datetime, visibility_allowance: timedelta) -> Span | None:
    """What listing `span` at server time `asked_at` proves; None where it is all too young.

    An order may appear in the lists late, by up to the allowance; younger time may still lack some
    orders. The end is exclusive: whether the platform includes the last second is not documented
    (docs/platform/gateway.md 3.2).
    """
    end = min(span.end, asked_at - visibility_allowance)
    return Span(span.start, end) if end > span.start else None


def reach(parts: Sequence[tuple[Span, Span | None]]) -> datetime | None:
    """How far parts with their proofs, oldest first and without a break, prove everything; None: nothing."""
    proven_to = None
    for part, proven in parts:
        if proven is None:
            break
        proven_to = proven.end
        if proven.end < part.end:
            break
    return proven_to


def up_to(span: Span, end: datetime | None) -> Span | None:
    """As much of the span as lies before `end`; None where that is nothing."""
    if end is None or end <= span.start:
        return None
    return Span(span.start, min(span.end, end))


def complete_until(proven: Sequence[Span]) -> datetime | None:
    """The end of the contiguous proven time since the bulk start; None before it."""
    return proven[0].end if proven else None


def last_proven(proven: Sequence[Span]) -> datetime | None:
    """The end of the last proven time, whatever is missing before it; None before the bulk start.

    The last pull up to now that succeeded began the visibility allowance after it.
    """
    return proven[-1].end if proven else None


def proven_from(proven: Sequence[Span], oldest: datetime) -> datetime:
    """How far the time from `oldest` on is proven without a break; from the bulk start on if that is later.

    A part of it must be proven.
    """
    for span in proven:
        if span.end > oldest:
            return span.end if span.start <= oldest or span is proven[0] else oldest
    return oldest


def holes(proven: Sequence[Span]) -> list[Span]:
    """What is missing between the first and the last proven moment."""
    return [
        Span(before.end, after.start)
        for before, after in itertools.pairwise(proven)
        if before.end < after.start
    ]


def covers(proven: Sequence[Span], span: Span) -> bool:
    """Whether all of `span` is proven. The spans are disjoint and sorted, so a single span must hold it."""
    return any(known.start <= span.start and span.end <= known.end for known in proven)


def cut(span: Span, longest: timedelta) -> Iterator[Span]:
    """The span in pieces no longer than `longest`, in order, each as it is asked for: there may be millions.

    Neighbours share their boundary second.
    """
    start = span.start
    while start < span.end:
        # Not `start + longest`, which may lie beyond the last moment that there is.
        end = span.end if span.end - start <= longest else start + longest
        yield Span(start, end)
        start = end
