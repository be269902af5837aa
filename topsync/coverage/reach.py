"""What of a span can be pulled again: only what the platform lists, nothing that is still to come. Pure.

`rules` are those of the list of orders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from schemas import platform_time
from topsync.coverage import spans
from topsync.model.span import Span
from topsync.platforms.port import ListRules

LEEWAY: Final = timedelta(days=1)
"""A request may end so far ahead: "to the end of today" means all of it until it is carried out. A later
end is a mistake; besides, whoever asks may know only the machine's clock."""

PIECE: Final = timedelta(days=1)
"""The most that is pulled at once: a replay holds it in memory, and does it again after a crash."""


def objection(span: Span, rules: ListRules, *, now: datetime) -> str | None:
    """Why a span must not be asked for, in a line for whoever asks; None where it may be."""
    oldest = rules.oldest(now)
    if span.start < oldest:
        return (
            f"the platform lists nothing that was modified before {text(oldest)}: name a start from then on, "
            f"not {text(span.start)}"
        )
    if span.end > now + LEEWAY:
        return f"the span ends at {text(span.end)}, which is still to come: it is now {text(now)}"
    return None


def pullable(span: Span, rules: ListRules, *, now: datetime) -> Span | None:
    """The part of a span that the platform lists now; None where that is nothing.

    What was modified in the present second is listed already; so `now` must not be late.
    """
    start = max(span.start, rules.oldest(now))
    end = min(span.end, platform_time.floor_to_second(now) + platform_time.RESOLUTION)
    return Span(start, end) if start < end else None


def nothing(span: Span, rules: ListRules, *, now: datetime) -> str:
    """Why nothing of a span is pullable."""
    if span.start >= now:
        return f"the span begins at {text(span.start)}, which is still to come: it is now {text(now)}"
    return f"the platform lists nothing that was modified before {text(rules.oldest(now))}"


def pieces(span: Span) -> Iterator[Span]:
    """A span as it is pulled, piece after piece, oldest first."""
    return spans.cut(span, PIECE)


def shortfall(span: Span, pulled: Span) -> str | None:
    """Why less than the span was pulled, although the pull came to its end."""
    reasons = []
    if pulled.start > span.start:
        reasons.append(f"the platform lists nothing that was modified before {text(pulled.start)}")
    if pulled.end < span.end:
        reasons.append(f"the span ends ahead of when it was pulled, {text(pulled.end)}")
    return "; ".join(reasons) or None


def fewest_list_calls(span: Span, *, window: timedelta) -> int:
    """What listing the orders of a span costs at least: a call for each window."""
    return sum(math.ceil((piece.end - piece.start) / window) for piece in pieces(span))


def text(instant: datetime) -> str:
    """A moment for people, whatever somebody has asked for."""
    try:
        return f"{platform_time.format(instant)} (GMT+8)"
    except OverflowError:  # in GMT+8 it lies beyond the last moment that there is
        return instant.isoformat()
