"""`topsync gaps`: the times in which push was lost, and what each waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas import platform_time
from topsync.base import durations, settings, terminal
from topsync.base.settings import ReconcilerSettings
from topsync.base.terminal import Column, Styled, Table
from topsync.model.calendar import Calendar
from topsync.operate import gap_waits, overview, pulling_status
from topsync.operate.gap_waits import GapWait, Wait
from topsync.operate.seller_commands import find
from topsync.store import sellers, timeline
from topsync.store.sellers import Seller
from topsync.store.timeline import PastGap
from topsync.wiring import parts

WRONG: Final = "bold red"


@dataclass(frozen=True, slots=True)
class _OpenGap:
    """An open gap with what it waits for."""

    past: PastGap
    waits_for: GapWait


async def show(*, seller: str | None, days: float, limit: int, as_json: bool) -> None:
    """Show open gaps, the worst first, and those that were closed in the last days, the latest first."""
    now = datetime.now(UTC)
    async with parts.open_pool() as pool:
        seller_id = None if seller is None else (await find(pool, seller)).seller_id
        open_ = await timeline.open_gaps(pool, seller_id=seller_id, limit=limit)
        count = await timeline.count_open(pool, seller_id)
        closed = await timeline.closed_gaps(
            pool, seller_id=seller_id, since=now - timedelta(days=days), limit=limit
        )
        known = await sellers.some(pool, {past.gap.seller_id for past in (*open_, *closed)})
        calendar = await pulling_status.with_learned(pool, overview.calendar_now()[0])
    sorted_ = _worst_first(open_, known, calendar, now)
    if as_json:
        terminal.write_json(_document(sorted_, closed, known, count))
        return
    if sorted_:
        terminal.show(_open(sorted_, known, now))
        if count > len(sorted_):
            terminal.say(f"and {count - len(sorted_)} other open gaps, which began later")
        # In lines of their own: they hold commands.
        waits = dict.fromkeys(each.waits_for.words for each in sorted_ if each.waits_for.wait is Wait.SELLER)
        terminal.say(*(f"! a gap waits for {words}" for words in waits))
    else:
        terminal.say("no gap is open")
    if closed:
        terminal.say("")
        terminal.show(_closed(closed, known, days))


def _worst_first(
    found: Sequence[PastGap], known: Mapping[int, Seller], calendar: Calendar, now: datetime
) -> list[_OpenGap]:
    retry = timedelta(seconds=settings.load(ReconcilerSettings).gap_retry_seconds)
    judged = [
        _OpenGap(past, gap_waits.of(past.gap, known.get(past.gap.seller_id), calendar, retry=retry, now=now))
        for past in found
    ]
    return sorted(judged, key=lambda each: (each.waits_for.wait, each.past.gap.began, each.past.gap.id))


def _open(found: Sequence[_OpenGap], known: Mapping[int, Seller], now: datetime) -> Table:
    table = Table(
        (
            Column("seller", whole=True),
            Column("nick", rank=3),
            Column("from (GMT+8)", whole=True),
            Column("to", whole=True, rank=2),
            Column("lasts", whole=True, rank=1),
            Column("waits for"),
            Column("cause", rank=4),
        ),
        title="Open gaps, the worst first",
    )
    for each in found:
        gap, wait = each.past.gap, each.waits_for
        words = wait.words.partition(":")[0] if wait.wait is Wait.SELLER else wait.words
        table.add(
            str(gap.seller_id),
            _nick(gap.seller_id, known),
            platform_time.format(gap.began),
            "push is away" if gap.ended is None else platform_time.format(gap.ended),
            durations.text(((gap.ended or now) - gap.began).total_seconds()),
            Styled(words, WRONG) if wait.wait <= Wait.PUSH else words,
            gap.cause,
        )
    return table


def _closed(found: Sequence[PastGap], known: Mapping[int, Seller], days: float) -> Table:
    table = Table(
        (
            Column("seller", whole=True),
            Column("nick", rank=3),
            Column("from (GMT+8)", whole=True),
            Column("to", whole=True, rank=1),
            Column("proven at", whole=True),
            Column("open for", whole=True, rank=2),
            Column("cause", rank=4),
        ),
        title=f"Closed in the last {days:g} days, the latest first",
    )
    for past in found:
        gap, closed_at = past.gap, past.closed_at
        assert closed_at is not None
        table.add(
            str(gap.seller_id),
            _nick(gap.seller_id, known),
            platform_time.format(gap.began),
            "" if gap.ended is None else platform_time.format(gap.ended),
            platform_time.format(closed_at),
            durations.text((closed_at - gap.opened_at).total_seconds()),
            gap.cause,
        )
    return table


def _nick(seller_id: int, known: Mapping[int, Seller]) -> str:
    seller = known.get(seller_id)
    return "" if seller is None else seller.nick


def _document(
    open_: Sequence[_OpenGap], closed: Sequence[PastGap], known: Mapping[int, Seller], count: int
) -> dict[str, object]:
    """The same for machines. The keys are a contract (docs/operations.md)."""
    return {
        "open": [
            _gap(each.past, known)
            | {"waits_for": each.waits_for.wait.name.lower(), "in_words": each.waits_for.words}
            for each in open_
        ],
        "open_not_shown": max(0, count - len(open_)),
        "closed": [_gap(past, known) for past in closed],
    }


def _gap(past: PastGap, known: Mapping[int, Seller]) -> dict[str, object]:
    gap = past.gap
    return {
        "gap": gap.id,
        "seller_id": str(gap.seller_id),
        "nick": _nick(gap.seller_id, known) or None,
        "from": gap.began,
        "to": gap.ended,
        "cause": gap.cause,
        "opened_at": gap.opened_at,
        "pulled_at": gap.pulled_at,
        "closed_at": past.closed_at,
    }
