"""Sellers as tables for people. Times are shown in GMT+8; without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from rich.table import Column, Table
from rich.text import Text

from schemas import platform_time
from topsync.sellers import session_rules
from topsync.standing import Standing
from topsync.store.bootstraps import Bootstrap
from topsync.store.erasures import Preview
from topsync.store.sellers import Seller, State

STYLES = {
    State.NEW: "cyan",
    State.LIVE: "green",
    State.PAUSED: "yellow",
    State.EXPIRED: "bold red",
    State.ERASED: "dim",
}


def of_all(found: Iterable[Seller], parked: Mapping[int, int], now: datetime) -> Table:
    """A row for each seller; `parked` is how many orders of a seller wait for it to be back."""
    # On a narrow screen cells take more lines. Who it is stays whole: half an id is nobody's.
    headings = ("state", "session ends (GMT+8)", "days left", "can refresh", "parked", "why")
    table = Table(
        Column("id", no_wrap=True),
        Column("nick", overflow="fold", min_width=8),
        *(Column(one, overflow="fold", min_width=max(map(len, one.split(" ")))) for one in headings),
    )
    for seller in found:
        table.add_row(
            str(seller.seller_id),
            Text(seller.nick),
            _state(seller),
            _instant(seller.life.ends_at, "not known"),
            _days_left(seller, now),
            "yes" if session_rules.can_refresh(seller, now=now) else "no",
            str(parked.get(seller.seller_id, 0)),
            Text(seller.reason or ""),
        )
    return table


def of_one(stands: Standing, bootstrap: Bootstrap | None, now: datetime) -> Table:
    """All that is known about one seller."""
    seller = stands.seller
    table = Table(show_header=False, title=Text(f"{seller.nick} ({seller.seller_id})"))
    for heading, content in (*_session_rows(seller, now), *_order_rows(stands)):
        table.add_row(heading, content)
    table.add_row(
        "bulk start",
        "never begun"
        if bootstrap is None
        else f"{bootstrap.step.value}, begun {platform_time.format(bootstrap.started_at)}",
    )
    if seller.state is State.EXPIRED:
        table.add_row("what to do", session_rules.what_to_do(seller, now=now))
    return table


def of_erasure(seller: Seller, found: Preview) -> Table:
    """What goes when a seller is erased."""
    table = Table(show_header=False, title=Text(f"To be erased of {seller.nick} ({seller.seller_id})"))
    for heading, count in (
        ("orders", found.orders),
        ("refunds", found.refunds),
        ("orders to be asked for again", found.refetches),
        ("bulk starts", found.bootstraps),
        ("certificates", found.certificates),
        ("rows of exports", found.export_rows),
        ("pulled windows", found.windows),
        ("gaps", found.gaps),
        ("replays", found.replays),
    ):
        table.add_row(heading, str(count))
    return table


def _session_rows(seller: Seller, now: datetime) -> list[tuple[str, Text | str]]:
    life = seller.life
    rows: list[tuple[str, Text | str]] = [
        ("state", _state(seller)),
        ("since", platform_time.format(seller.since)),
        ("why", Text(seller.reason or "")),
        ("authorised", _instant(life.authorised_at, "not known")),
        ("session ends", _instant(life.ends_at, "not known")),
        ("days left", _days_left(seller, now)),
        ("refreshable", _refreshable(seller, now)),
    ]
    levels = life.facts.get("level_seconds")
    if life.authorised_at is not None and isinstance(levels, dict):
        rows += [
            (f"level {level} ends", _instant(life.authorised_at + timedelta(seconds=seconds), ""))
            for level, seconds in levels.items()
        ]
    if sub_user := life.facts.get("sub_user_id"):
        rows.append(("granted by", Text(f"sub-account {sub_user}, with its rights")))
    return [row for row in rows if row[1]]


def _order_rows(stands: Standing) -> list[tuple[str, Text | str]]:
    gaps = [
        f"{platform_time.format(gap.began)} to "
        f"{'now' if gap.ended is None else platform_time.format(gap.ended)}: {gap.cause}"
        for gap in stands.open_gaps
    ]
    return [
        ("orders", str(stands.orders)),
        ("complete until", _instant(stands.complete_until, "not bootstrapped") + stands.proven_in),
        *([("topics", Text("\n".join(map(str, stands.losses)), "bold red"))] if stands.losses else []),
        ("holes", str(len(stands.holes))),
        ("open gaps", Text("\n".join(gaps)) if gaps else "none"),
        ("parked", f"{stands.parked} orders, asked for when it is back" if stands.parked else "none"),
        *([("replay", "about to begin")] if stands.seller.replay_due else []),
    ]


def _state(seller: Seller) -> Text:
    return Text(seller.state.value, STYLES[seller.state])


def _days_left(seller: Seller, now: datetime) -> Text:
    if seller.refused_at is not None:
        return Text("none", "bold red")
    if seller.life.ends_at is None:
        return Text("?")
    days = (seller.life.ends_at - now) / timedelta(days=1)
    first, second, last = session_rules.WARNING_DAYS
    style = (
        "bold red" if days <= last else "red" if days <= second else "yellow" if days <= first else "green"
    )
    return Text(f"{max(days, 0):.1f}", style)


def _refreshable(seller: Seller, now: datetime) -> str:
    if not session_rules.can_refresh(seller, now=now):
        return "no"
    until = _instant(seller.life.refresh_ends_at, "an unknown time")
    tried = f"; {seller.refresh_attempts} attempts without success" if seller.refresh_attempts else ""
    return f"until {until}{tried}"


def _instant(instant: datetime | None, otherwise: str) -> str:
    return otherwise if instant is None else platform_time.format(instant)
