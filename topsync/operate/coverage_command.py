"""`topsync coverage`: a seller's time, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas import platform_time
from topsync.base import durations, terminal
from topsync.base.errors import OperatorError
from topsync.coverage import spans
from topsync.model.span import Span
from topsync.operate import coverage_picture
from topsync.operate.coverage_picture import Timeline
from topsync.operate.seller_commands import find
from topsync.store import coverage, timeline
from topsync.store.database import Pool
from topsync.store.sellers import Seller
from topsync.store.timeline import PastGap
from topsync.wiring import parts

USUAL_DAYS: Final = 7
MOST_DAYS: Final = 366

MOST_LINES: Final = 11
"""Of the summary above the picture."""


class CoverageAskedError(OperatorError):
    """A time that cannot be drawn."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was read."""

    seller: Seller
    span: Span
    proven: Sequence[Span]
    gaps: Sequence[PastGap]
    replayed: Sequence[Span]
    now: datetime

    @property
    def in_span(self) -> list[Span]:
        """As much of what is proven as lies in the span."""
        return [
            Span(max(each.start, self.span.start), min(each.end, self.span.end))
            for each in self.proven
            if each.start < self.span.end and self.span.start < each.end
        ]

    @property
    def open_gaps(self) -> list[PastGap]:
        """The gaps that are not proven."""
        return [past for past in self.gaps if past.closed_at is None]


async def show(seller: str, start: datetime | None, end: datetime | None, *, as_json: bool) -> None:
    """Draw a seller's time. `start` and `end` are the platform's time, without a zone.

    Raises:
        CoverageAskedError: the time cannot be drawn.
    """
    now = datetime.now(UTC)
    until = now if end is None else end.replace(tzinfo=platform_time.CHINA)
    since = (
        coverage_picture.midnight(until - timedelta(days=USUAL_DAYS - 1))
        if start is None
        else start.replace(tzinfo=platform_time.CHINA)
    )
    if since >= until:
        raise CoverageAskedError("--from must be before --to")
    if until - since > timedelta(days=MOST_DAYS):
        raise CoverageAskedError(f"at most {MOST_DAYS} days are drawn at once")
    async with parts.open_pool() as pool:
        seen = await _look(pool, await find(pool, seller), Span(since, until), now)
    if as_json:
        terminal.write_json(_document(seen))
        return
    terminal.say(*_summary(seen), "")
    drawn = coverage_picture.days(
        Timeline(
            seen.proven,
            [Span(past.gap.began, past.gap.ended or now) for past in seen.open_gaps],
            seen.replayed,
        ),
        seen.span,
        now=now,
    )
    terminal.say(*coverage_picture.lines(drawn), "", *coverage_picture.legend(drawn))
    minutes = coverage_picture.CELL.total_seconds() / 60
    terminal.say(f"A line is a day (GMT+8), a character {minutes:g} minutes; it shows the worst of them.")


async def _look(pool: Pool, seller: Seller, span: Span, now: datetime) -> _Seen:
    return _Seen(
        seller,
        span,
        await coverage.proven_of(pool, seller.seller_id),
        await timeline.gaps_of(pool, seller.seller_id, span),
        await timeline.replayed(pool, seller.seller_id, span),
        now,
    )


def _summary(seen: _Seen) -> list[str]:
    """What is most important, in words."""
    name, complete = seen.seller.name, spans.complete_until(seen.proven)
    if complete is None:
        return [f"{name} is {seen.seller.state} and has no finished bulk start: nothing of it is proven"]
    ago = durations.text((seen.now - complete).total_seconds())
    said = [
        *terminal.filled(
            f"{name} is {seen.seller.state}, and complete up to {_text(complete)} (GMT+8), {ago} ago"
        ),
        *(f"  not proven: {_text(hole.start)} to {_text(hole.end)}" for hole in spans.holes(seen.proven)),
    ]
    for past in seen.open_gaps:
        ended = "now" if past.gap.ended is None else _text(past.gap.ended)
        said.append(f"  open gap: {_text(past.gap.began)} to {ended}: {past.gap.cause}")
    return said if len(said) <= MOST_LINES else [*said[:MOST_LINES], f"  and {len(said) - MOST_LINES} more"]


def _text(instant: datetime) -> str:
    return platform_time.format(instant)


def _document(seen: _Seen) -> dict[str, object]:
    """The same for machines. The keys are a contract (docs/operations.md)."""
    return {
        "seller_id": str(seen.seller.seller_id),
        "nick": seen.seller.nick,
        "state": seen.seller.state.value,
        "from": seen.span.start.astimezone(UTC),
        "to": seen.span.end.astimezone(UTC),
        "proven_from": seen.proven[0].start if seen.proven else None,
        "complete_until": spans.complete_until(seen.proven),
        "proven": [_span(each) for each in seen.in_span],
        "holes": [_span(each) for each in spans.holes(seen.proven)],
        "gaps": [
            {
                "from": past.gap.began,
                "to": past.gap.ended,
                "cause": past.gap.cause,
                "opened_at": past.gap.opened_at,
                "closed_at": past.closed_at,
            }
            for past in seen.gaps
        ],
        "replayed": [_span(each) for each in coverage_picture.joined(seen.replayed)],
    }


def _span(span: Span) -> dict[str, datetime]:
    return {"from": span.start, "to": span.end}
