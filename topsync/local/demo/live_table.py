"""The demo's live table: the status at a moment, for a terminal; where there is none, a line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rich.console import Group

from topsync.base import terminal
from topsync.base.terminal import Column, Styled, Table
from topsync.sellers.status import SellerStatus

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
    connected: bool
    open_gaps: int
    calls: int
    sellers: list[SellerStatus]


def as_table(now: Snapshot) -> Group:
    """The status for a terminal of this width."""
    # Two rows, for a screen of 80 columns.
    head = Table([Column("", whole=True)] * 3, headed=False)
    head.add(f"orders {now.orders}", _rates(now), f"freshness {_freshness(now)}")
    head.add(
        f"gateway calls {now.calls}",
        Styled("push connected", "green") if now.connected else Styled("push away", "bold red"),
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
        f"orders {now.orders}  {_rates(now)}  freshness {_freshness(now)}  "
        f"complete up to {_ago(now.at, least)}  calls {now.calls}  "
        f"push {'connected' if now.connected else 'away'}  open gaps {now.open_gaps}"
    )


def _rates(now: Snapshot) -> str:
    return f"changes/s {now.changes_per_second:.0f}, published/s {now.published_per_second:.0f}"


def _freshness(now: Snapshot) -> str:
    if now.freshness is None:
        return "-"
    return "p50 {:.2f} s p99 {:.2f} s".format(*now.freshness)


def _ago(now: datetime, then: datetime | None) -> str:
    return "not yet" if then is None else f"{(now - then).total_seconds():.0f} s ago"
