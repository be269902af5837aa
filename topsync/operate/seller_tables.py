"""Sellers as tables for people. Times are shown in GMT+8; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from schemas import platform_time
from topsync.base.terminal import Cell, Column, Styled, Table, facts
from topsync.model.scheme import Scheme
from topsync.sellers import schemes, session_rules
from topsync.sellers.status import SellerStatus
from topsync.store.bootstraps import Bootstrap
from topsync.store.erasures import Preview
from topsync.store.sellers import Seller, SellerState

STYLES = {
    SellerState.NEW: "cyan",
    SellerState.LIVE: "green",
    SellerState.PAUSED: "yellow",
    SellerState.EXPIRED: "bold red",
    SellerState.ERASED: "dim",
}


def of_all(found: Iterable[Seller], parked: Mapping[int, int], installation: Scheme, now: datetime) -> Table:
    """A row for each seller; `parked` is how many of a seller's orders wait until it is back, `installation`
    the scheme of sellers without one of their own.
    """
    table = Table(
        (
            Column("id", whole=True),
            Column("nick"),
            Column("state", whole=True),
            Column("session ends", whole=True, rank=2),
            Column("days", whole=True, rank=1),
            Column("parked", whole=True, rank=3),
            Column("refresh", whole=True, rank=4),
            Column("scheme", whole=True, rank=5),
            Column("why"),
        ),
        title="Sellers, and the days left of their sessions (times are GMT+8)",
    )
    for seller in found:
        table.add(
            str(seller.seller_id),
            seller.nick,
            state_of(seller),
            _instant(seller.life.ends_at, "not known"),
            _days_left(seller, now),
            str(parked.get(seller.seller_id, 0)),
            "yes" if session_rules.can_refresh(seller, now=now) else "no",
            schemes.scheme_of(seller, installation).value,
            seller.reason or "",
        )
    return table


def scheme_of(seller: Seller, installation: Scheme) -> str:
    """A seller's scheme, and whose it is."""
    whose = "the installation's" if seller.scheme is None else "its own"
    return f"{schemes.scheme_of(seller, installation)} ({whose})"


def of_one(stands: SellerStatus, bootstrap: Bootstrap | None, installation: Scheme, now: datetime) -> Table:
    """All that is known about a seller."""
    seller = stands.seller
    table = facts(seller.name)
    polled = ", polled" if schemes.is_polled(seller, installation) else ""
    table.add("scheme", f"{scheme_of(seller, installation)}{polled}")
    for heading, content in (*_session_rows(seller, now), *_order_rows(stands)):
        table.add(heading, content)
    table.add(
        "bulk start",
        "never begun"
        if bootstrap is None
        else f"{bootstrap.step.value}, begun {platform_time.format(bootstrap.started_at)}",
    )
    return table


def what_to_do(found: Iterable[Seller], now: datetime) -> list[str]:
    """What an operator does about refused sellers, a line each: a table would break the commands."""
    return [
        f"{seller.seller_id}: {session_rules.what_to_do(seller, now=now)}"
        for seller in found
        if seller.state is SellerState.EXPIRED
    ]


def of_erasure(seller: Seller, found: Preview) -> Table:
    """What is deleted when a seller is erased."""
    table = facts(f"To be erased of {seller.name}")
    for heading, count in (
        *((kind.plural, count) for kind, count in found.stored.items()),
        ("orders to be asked for again", found.refetches),
        ("bulk starts", found.bootstraps),
        ("certificates", found.certificates),
        ("rows of slices", found.slice_rows),
        ("pulled windows", found.windows),
        ("gaps", found.gaps),
        ("replays", found.replays),
    ):
        table.add(heading, str(count))
    return table


def _session_rows(seller: Seller, now: datetime) -> list[tuple[str, Cell]]:
    life = seller.life
    rows: list[tuple[str, Cell]] = [
        ("state", state_of(seller)),
        ("since", platform_time.format(seller.since)),
        ("why", seller.reason or ""),
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
        rows.append(("granted by", f"sub-account {sub_user}, with its rights"))
    return [row for row in rows if row[1]]


def _order_rows(stands: SellerStatus) -> list[tuple[str, Cell]]:
    gaps = [
        f"{platform_time.format(gap.began)} to "
        f"{'now' if gap.ended is None else platform_time.format(gap.ended)}: {gap.cause}"
        for gap in stands.open_gaps
    ]
    return [
        ("orders", str(stands.orders)),
        ("complete until", _instant(stands.complete_until, "not bootstrapped") + stands.proven_in),
        *(("topic", Styled(str(loss), "bold red")) for loss in stands.losses),
        ("holes", str(len(stands.holes))),
        *([("open gap", gap) for gap in gaps] or [("open gaps", "none")]),
        ("waiting", f"{stands.waiting} orders, asked for again by themselves" if stands.waiting else "none"),
        ("parked", f"{stands.parked} orders, asked for when it is back" if stands.parked else "none"),
        *([("replay", "about to begin")] if stands.seller.replay_due else []),
    ]


def state_of(seller: Seller) -> Styled:
    """A seller's state, as it is shown everywhere."""
    return Styled(seller.state.value, STYLES[seller.state])


def _days_left(seller: Seller, now: datetime) -> Cell:
    if seller.refused_at is not None:
        return Styled("none", "bold red")
    if seller.life.ends_at is None:
        return "?"
    days = (seller.life.ends_at - now) / timedelta(days=1)
    first, second, last = session_rules.WARNING_DAYS
    style = (
        "bold red" if days <= last else "red" if days <= second else "yellow" if days <= first else "green"
    )
    return Styled(f"{max(days, 0):.1f}", style)


def _refreshable(seller: Seller, now: datetime) -> str:
    if not session_rules.can_refresh(seller, now=now):
        return "no"
    until = _instant(seller.life.refresh_ends_at, "an unknown time")
    tried = f"; {seller.refresh_attempts} attempts without success" if seller.refresh_attempts else ""
    return f"until {until}{tried}"


def _instant(instant: datetime | None, otherwise: str) -> str:
    return otherwise if instant is None else platform_time.format(instant)
