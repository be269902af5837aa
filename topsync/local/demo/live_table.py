"""The demo's live table: the status at a moment, for a terminal; where there is none, a line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rich.console import Group

from topsync.base import terminal
from topsync.base.terminal import Column, Styled, Table
from topsync.sellers.status import SellerStatus

CONNECTED: Final = "connected"
AWAY: Final = "away"

console = terminal.console(markup=True)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The status at a moment."""

    at: datetime
    """Platform time."""
    orders: int
    changes_per_second: float
    """Changes on the platform."""
    published_per_second: float
    """Orders and refunds together: a change may show in both."""
    freshness: tuple[float, float] | None
    push: str | None
    """`connected` or `away`; None where there is none, by the scheme."""
    polled_every_seconds: float
    """Where there is no push."""
    open_gaps: int
    calls: int
    sellers: list[SellerStatus]


def as_table(now: Snapshot) -> Group:
    """The status for a terminal of this width."""
    # Two rows, for a screen of 80 columns.
    head = Table([Column("", whole=True)] * 3, headed=False)
    head.add(f"orders {now.orders}", _rates(now), _freshness(now))
    head.add(
        f"gateway calls {now.calls}",
        Styled(_push(now), "bold red" if now.push == AWAY else "green"),
        Styled(f"open gaps {now.open_gaps}", "bold red" if now.open_gaps else "none"),
    )
    columns = (
        Column("seller"),
        *(Column(heading, whole=True) for heading in ("orders", "complete up to", "holes", "open gaps")),
    )
    table = Table(columns)
    for stands in now.sellers:
        table.add(
            stands.seller.nick,
            str(stands.orders),
            _ago(now.at, stands.complete_until) + stands.proven_in,
            str(len(stands.holes)),
            str(len(stands.open_gaps)),
        )
    return Group(*(each.fitted(console.width)[0] for each in (head, table)))


def as_line(now: Snapshot) -> str:
    """The status where the output is no terminal."""
    least = min((stands.complete_until for stands in now.sellers if stands.complete_until), default=None)
    return (
        f"orders {now.orders}  {_rates(now)}  {_freshness(now)}  "
        f"complete up to {_ago(now.at, least)}  calls {now.calls}  {_push(now)}  open gaps {now.open_gaps}"
    )


def _rates(now: Snapshot) -> str:
    return f"changes/s {now.changes_per_second:.0f}, published/s {now.published_per_second:.0f}"


def _push(now: Snapshot) -> str:
    return "no push, by the scheme" if now.push is None else f"push {now.push}"


def _freshness(now: Snapshot) -> str:
    """Freshness is measured from the platform's messages: without them, it is the interval."""
    if now.push is None:
        return f"polled every {now.polled_every_seconds:g} s"
    if now.freshness is None:
        return "freshness -"
    return "freshness p50 {:.2f} s p99 {:.2f} s".format(*now.freshness)


def _ago(now: datetime, then: datetime | None) -> str:
    return "not yet" if then is None else f"{(now - then).total_seconds():.0f} s ago"
