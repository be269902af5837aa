"""What to do about a seller's session: refresh it, warn of its end, or wait. No I/O."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from topsync.store.sellers import Life, Seller, SellerState

WARNING_DAYS: Final = (30, 7, 1)
"""How long before a session's end operators are warned."""

FIRST_WAIT_SECONDS: Final = 60.0
"""The wait after an attempt to refresh that brought no answer; doubles."""
LONGEST_WAIT_SECONDS: Final = 3600.0
MAX_ATTEMPTS: Final = 48
"""Attempts to refresh a session; they take two days. After that, an operator has to look."""

REFUSED: Final = "the platform refused the session"
CANCELLED: Final = "the seller cancelled the authorisation"
UNREADABLE: Final = "no key in TOPSYNC_TOKEN_KEYS opens the stored session"


def can_refresh(seller: Seller, *, now: datetime | None) -> bool:
    """Whether a refresh may bring another session; `now` is platform time, None when it is not known."""
    life = seller.life
    if life.refresh_cipher is None or seller.reason == UNREADABLE or seller.refresh_attempts >= MAX_ATTEMPTS:
        return False
    return now is None or life.refresh_ends_at is None or now < life.refresh_ends_at


def needs_the_seller(seller: Seller, *, now: datetime) -> bool:
    """Whether a session ends unless its seller authorises: nobody has to act on one that is refreshed."""
    return not can_refresh(seller, now=now) or seller.refresh_attempts > 0


def refresh_is_due(seller: Seller, *, share: float, now: datetime) -> bool:
    """Whether it is time to refresh: the session was refused, or the last `share` of its life has begun.

    A paused seller is left alone. (docs/platform/gateway.md 3.16: early, once per seller; a quarter of the
    life is an inference, so it is a setting.)
    """
    if seller.state is SellerState.PAUSED or not seller.refresh_allowed or not can_refresh(seller, now=now):
        return False
    if seller.refused_at is not None:
        return True
    begins, ends = seller.life.authorised_at, seller.life.ends_at
    return begins is not None and ends is not None and now >= ends - share * (ends - begins)


def wait_seconds(attempts: int) -> float:
    """How long to wait after this many attempts, at least one, to refresh."""
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(attempts - 1, 16))


def warning_due(life: Life, given: Collection[int], *, now: datetime) -> int | None:
    """The days of the most urgent warning that is due and was not given, if any.

    Only the most urgent: whoever is warned a day ahead needs no warning a month ahead.
    """
    if life.ends_at is None:
        return None
    left = life.ends_at - now
    crossed = [days for days in WARNING_DAYS if left <= timedelta(days=days)]
    return None if not crossed or min(crossed) in given else min(crossed)


def what_to_do(seller: Seller, *, now: datetime | None) -> str:
    """What an operator does about a seller whose session is refused, in a sentence."""
    if seller.reason == UNREADABLE:
        return f"add the key that it was stored with, or run `topsync sellers authorise {seller.seller_id}`"
    if seller.reason != CANCELLED and can_refresh(seller, now=now):
        return "it is being refreshed"
    return f"run `topsync sellers authorise {seller.seller_id}`"
