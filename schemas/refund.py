"""A refund as the platform gives it (reference/top-api.md 3.10); names are the platform's.

Like `schemas.trade`: what is not named here is carried under `platform_fields`.
"""

from __future__ import annotations

from typing import ClassVar

from schemas.platform_object import PlatformObject, UnreadableError
from schemas.types import Instant, Money, PlatformId


class UnreadableRefundError(UnreadableError):
    """A refund lacks what every refund must have. The text names fields and problems, never values."""


class RefundRemindTimeout(PlatformObject):
    """When the platform decides by itself, unless somebody acts before."""

    exist_timeout: bool | None = None
    remind_type: int | None = None
    timeout: Instant | None = None


class Refund(PlatformObject):
    """One refund of one order line, as `taobao.refund.get` gives it.

    `from_platform` raises UnreadableRefundError.
    """

    unreadable: ClassVar = UnreadableRefundError

    refund_id: PlatformId
    tid: PlatformId
    oid: PlatformId
    """Equals `tid` where the trade has one line."""
    status: str
    modified: Instant
    created: Instant | None = None
    refund_version: int | None = None
    """Milliseconds since the epoch: orders two states of a refund that share a second."""
    order_status: str | None = None
    good_status: str | None = None
    has_good_return: bool | None = None
    refund_phase: str | None = None
    dispute_type: str | None = None
    refund_fee: Money | None = None
    """What the buyer gets back."""
    payment: Money | None = None
    """What the seller keeps: `total_fee` less `refund_fee`."""
    total_fee: Money | None = None
    price: Money | None = None
    num: int | None = None
    num_iid: PlatformId | None = None
    title: str | None = None
    outer_id: str | None = None
    reason: str | None = None
    desc: str | None = None
    cs_status: int | None = None
    advance_status: int | None = None
    company_name: str | None = None
    sid: str | None = None
    good_return_time: Instant | None = None
    seller_nick: str | None = None
    buyer_nick: str | None = None
    buyer_open_uid: str | None = None
    refund_remind_timeout: RefundRemindTimeout | None = None
