"""What an open gap waits for. Pure; the reconciler's `plan` decides, and this says it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from schemas import platform_time
from topsync.model.calendar import Calendar
from topsync.model.gap import Gap
from topsync.sellers import session_rules
from topsync.store.sellers import Seller, SellerState


class Wait(IntEnum):
    """For what; the smallest value is the worst."""

    SELLER = 0
    """The seller is away: somebody has to do something."""
    PUSH = 1
    """Push is not back."""
    PROOF = 2
    """It was pulled when it was old enough, and was not proven; it is pulled again and again."""
    PULL = 3
    """Its first pull."""
    LISTS = 4
    """The lists may still lack what changed at its end."""


@dataclass(frozen=True, slots=True)
class GapWait:
    """What a gap waits for."""

    wait: Wait
    words: str


def of(gap: Gap, seller: Seller | None, calendar: Calendar, *, retry: timedelta, now: datetime) -> GapWait:
    """What an open gap waits for, in words; `retry` is the time between two pulls that did not prove it."""
    if seller is not None and seller.state is SellerState.EXPIRED:
        do = session_rules.what_to_do(seller, now=None)
        return GapWait(Wait.SELLER, f"its seller, whose session is refused: {do}")
    if seller is not None and seller.state is SellerState.PAUSED:
        return GapWait(Wait.SELLER, f"its seller, who is paused: `topsync sellers resume {seller.seller_id}`")
    if gap.ended is None:
        return GapWait(Wait.PUSH, "push to be back")
    if gap.pulled_at is None:
        return GapWait(Wait.PULL, "its turn to be pulled")
    provable_at = gap.ended + calendar.visibility_allowance(gap.ended)
    if gap.pulled_at < provable_at:
        if now < provable_at:
            return GapWait(
                Wait.LISTS,
                "the lists to show all of it, for sure at "
                f"{platform_time.format(provable_at)}; it was pulled once for freshness",
            )
        return GapWait(Wait.PULL, "its turn to be pulled for the proof")
    again = max(timedelta(0), gap.pulled_at + retry - now)
    return GapWait(
        Wait.PROOF,
        f"a pull that proves it: the last, at {platform_time.format(gap.pulled_at)}, did not; again in "
        f"{again.total_seconds():.0f} s",
    )
