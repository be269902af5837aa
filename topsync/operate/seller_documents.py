"""Sellers as documents for machines: `--json`. The keys are a contract (docs/sellers.md). No I/O.

Ids are text, so that no reader loses digits; times are UTC.
"""

from __future__ import annotations

from datetime import datetime

from topsync.model.kind import PARTS
from topsync.model.scheme import Scheme
from topsync.sellers import schemes, session_rules
from topsync.sellers.status import SellerStatus
from topsync.store.bootstraps import Bootstrap
from topsync.store.sellers import Seller

Document = dict[str, object]


def of_scheme(seller: Seller, installation: Scheme) -> Document:
    """How a seller's orders are had; `installation` is the scheme of sellers without one of their own."""
    return {
        "scheme": schemes.scheme_of(seller, installation).value,
        "own_scheme": None if seller.scheme is None else seller.scheme.value,
        "polled": schemes.is_polled(seller, installation),
    }


def of_seller(seller: Seller, parked: int, installation: Scheme, now: datetime) -> Document:
    """A seller and its session; `parked` is how many of its orders wait until it is back."""
    life = seller.life
    return {
        "seller_id": str(seller.seller_id),
        "nick": seller.nick,
        "state": seller.state.value,
        "state_since": seller.since,
        "reason": seller.reason,
        "session_refused_at": seller.refused_at,
        "session_ends_at": life.ends_at,
        "authorised_at": life.authorised_at,
        "can_refresh": session_rules.can_refresh(seller, now=now),
        "refresh_ends_at": life.refresh_ends_at,
        "parked_orders": parked,
    } | of_scheme(seller, installation)


def of_standing(stands: SellerStatus) -> Document:
    """What is stored of a seller, and how far it is proven."""
    return {
        "orders": stands.orders,
        "complete_until": stands.complete_until,
        "lost_topics": sorted({loss.topic for loss in stands.losses}),
        **{f"with_{kind.plural}": kind in stands.parts for kind in PARTS},
        "holes": [{"from": hole.start, "to": hole.end} for hole in stands.holes],
        "open_gaps": [
            {"from": gap.began, "to": gap.ended, "cause": gap.cause, "opened_at": gap.opened_at}
            for gap in stands.open_gaps
        ],
        "waiting_orders": stands.waiting,
        "parked_orders": stands.parked,
        "replay_due": stands.seller.replay_due,
    }


def of_one(
    stands: SellerStatus, bootstrap: Bootstrap | None, installation: Scheme, now: datetime
) -> Document:
    """All that is known about a seller."""
    started = (
        None if bootstrap is None else {"step": bootstrap.step.value, "started_at": bootstrap.started_at}
    )
    known = of_seller(stands.seller, stands.parked, installation, now)
    return known | of_standing(stands) | {"bulk_start": started}
