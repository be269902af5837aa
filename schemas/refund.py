"""A refund as the platform gives it (docs/platform/gateway.md 3.10); names are the platform's.

As in `schemas.trade`, fields that are not named here are carried under `platform_fields`.
"""

from __future__ import annotations

from typing import ClassVar

from schemas import content
from schemas.platform_object import PlatformObject, UnreadableError
from schemas.types import Count, Instant, Milliseconds, Money, PlatformId

NOT_ITS_OWN = frozenset({"buyer_nick", "address", "order_status", "good_status"})
"""Not content: masking (docs/platform/gateway.md 5.7) and the order change them without a change of the
refund, and no list would show it."""


class UnreadableRefundError(UnreadableError):
    """A refund lacks what every refund must have. The text names fields and problems, never values."""


class RefundRemindTimeout(PlatformObject):
    """When the platform decides by itself, unless somebody acts earlier."""

    exist_timeout: bool | None = None
    """Whether the platform will decide by itself."""
    remind_type: Count | None = None
    """What it will do then, as the platform's number."""
    timeout: Instant | None = None
    """When."""


class Refund(PlatformObject):
    """A refund of an order line, as `taobao.refund.get` gives it.

    `from_platform` raises UnreadableRefundError.
    """

    unreadable: ClassVar = UnreadableRefundError
    # Fields that we ask for and have no type for (docs/platform/gateway.md 3.10).
    carried: ClassVar = frozenset({"sku", "operation_contraint", "attribute", "shipping_type"})
    not_content: ClassVar = NOT_ITS_OWN
    head: ClassVar = frozenset({"refund_id", "tid", "oid", "status", "created", "modified", "refund_version"})
    parts: ClassVar = {"refund_remind_timeout": RefundRemindTimeout}

    refund_id: PlatformId
    """Id of the refund."""
    tid: PlatformId
    """The order."""
    oid: PlatformId
    """The order's line; equals `tid` where the order has only one."""
    status: str
    """`WAIT_SELLER_AGREE`, `WAIT_BUYER_RETURN_GOODS`, `WAIT_SELLER_CONFIRM_GOODS`, `SELLER_REFUSE_BUYER`,
    `SUCCESS` (the money went back), `CLOSED` (without a refund); exchanges have others.
    """
    modified: Instant
    """Moves with every change of the refund; whole seconds, so two changes can have the same value."""
    created: Instant | None = None
    """When the buyer asked for the refund."""
    refund_version: Milliseconds | None = None
    """Milliseconds since the epoch: sorts two states of a refund within the same second."""
    order_status: str | None = None
    """The order's status when the refund last changed; the order itself may be newer."""
    good_status: str | None = None
    """Where the goods were at that time: `BUYER_NOT_RECEIVED`, `BUYER_RECEIVED`, `BUYER_RETURNED_GOODS`."""
    has_good_return: bool | None = None
    """Whether the goods must go back."""
    refund_phase: str | None = None
    """`onsale`, or `aftersale`: the order was finished before."""
    dispute_type: str | None = None
    """E.g. `REFUND`, `REFUND_AND_RETURN`, `TMALL_EXCHANGE`, `REPAIR`; new values appear."""
    refund_fee: Money | None = None
    """What the buyer gets back."""
    payment: Money | None = None
    """What the seller keeps: `total_fee` less `refund_fee`."""
    total_fee: Money | None = None
    """What the order cost."""
    price: Money | None = None
    """The price of a single piece."""
    num: Count | None = None
    """How many pieces."""
    num_iid: PlatformId | None = None
    """The item."""
    title: str | None = None
    """The item's title."""
    outer_id: str | None = None
    """The merchant's own code of the item; may be empty or stale."""
    reason: str | None = None
    """Why, in the platform's words."""
    desc: str | None = None
    """Why, in the buyer's words."""
    cs_status: Count | None = None
    """The state of the platform's arbitration, 1 to 11; 1: nobody asked for it."""
    advance_status: Count | None = None
    """Whether the platform has paid in advance, 0 to 5; 0: it has not."""
    company_name: str | None = None
    """The carrier of the goods that go back."""
    sid: str | None = None
    """The waybill of the goods that go back."""
    good_return_time: Instant | None = None
    """When the buyer sent the goods back."""
    seller_nick: str | None = None
    """The seller's nick."""
    buyer_nick: str | None = None
    """Masked by the platform, and carried as received."""
    buyer_open_uid: str | None = None
    """The buyer, opaque but stable: the key of a customer."""
    refund_remind_timeout: RefundRemindTimeout | None = None
    """When the platform decides by itself."""

    def content_hash(self) -> bytes:
        """Digest of the refund's content (`schemas.content`): if it is equal, the content has not changed."""
        return content.content_hash(Refund, self.to_json())
