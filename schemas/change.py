"""A change: the hint that an order may have changed, as a record of the topic `changes`.

It carries no order data. Whoever learns of a change publishes such a hint; the enricher that owns the order's
partition fetches the order and decides.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from schemas.types import Instant, PlatformId


class Source(StrEnum):
    """Who learnt of the change; in order of urgency."""

    PUSH = "push"
    GAP = "gap"
    OPERATOR = "operator"
    BOOTSTRAP = "bootstrap"
    SWEEP = "sweep"

    @classmethod
    def _missing_(cls, value: object) -> Source | None:
        """A newer release may run at the same time and have other values: treat them as the least urgent."""
        return cls.SWEEP if isinstance(value, str) else None


class Change(BaseModel):
    """A hint about an order, and perhaps about one of its refunds."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    seller_id: PlatformId
    """The platform's user id of the seller."""
    tid: PlatformId
    event: str
    """The message topic (`taobao_trade_TradeBuyerPay`), or `listed` where an increment listed the order."""
    occurred_at: Instant
    """Platform time: the message's publication, or the listed `modified`."""
    settled_after: Instant
    """A fetch of the order that began at or after this moment answers this hint."""
    modified: Instant | None = None
    """The `modified` that the order is known to have reached; push messages do not say it."""
    refund_id: PlatformId | None = None
    """A refund of the order that may have changed with it."""
    refund_modified: Instant | None = None
    """The `modified` that the refund is known to have reached; push messages do not say it."""
    received_at: Instant
    """Platform time at which this process learnt of it."""
    source: Source
    reason: str | None = None
    """What asked for it: the id of a gap, a replay job or a sweep."""


class Hint(NamedTuple):
    """A `Change` as push writes it for each message: the same fields without the checks.

    The caller has checked the ids (`parse_id`); instants are UTC.
    """

    seller_id: int
    tid: int
    event: str
    occurred_at: datetime
    settled_after: datetime
    received_at: datetime
    source: Source = Source.PUSH
    modified: datetime | None = None
    refund_id: int | None = None
    refund_modified: datetime | None = None
    reason: str | None = None
