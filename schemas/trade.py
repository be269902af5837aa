"""A full order as topsync publishes and stores it: `Trade` with its `OrderLine`s.

Names are the platform's (reference/top-api.md 5.2 and 5.4), types are what they should be: see
`schemas.types`. Lists lose the platform's double nesting (`orders.order` becomes `orders`). Whatever the
platform sends beyond these fields, and an optional field that has a shape of its own, is carried
unchanged under `platform_fields`, so nothing is lost when the platform changes its mind.

Receiver fields are masked by the platform and stored as received; they never go into a log or a metric.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Self

import orjson
from pydantic import Field

from schemas.platform_object import PlatformObject, UnreadableError, list_of
from schemas.types import Instant, Money, PlatformId

RECEIVER_FIELDS = frozenset(
    {
        "receiver_name",
        "receiver_mobile",
        "receiver_phone",
        "receiver_address",
        "receiver_state",
        "receiver_city",
        "receiver_district",
        "receiver_town",
        "receiver_zip",
        "receiver_country",
        "oaid",
    }
)
"""Left out of the content hash: masking and oaid change without a change of the order (5.7)."""

CONTENT_HASH_BYTES = 16


class UnreadableTradeError(UnreadableError):
    """A trade lacks what every trade must have. The text names fields and problems, never values."""


class OrderLine(PlatformObject):
    """One line of a trade (the platform calls it an order). `oid` equals `tid` where there is only one."""

    oid: PlatformId
    status: str | None = None
    refund_status: str | None = None
    refund_id: PlatformId | None = None
    num_iid: PlatformId | None = None
    sku_id: PlatformId | None = None
    sku_properties_name: str | None = None
    outer_iid: str | None = None
    outer_sku_id: str | None = None
    title: str | None = None
    num: int | None = None
    price: Money | None = None
    total_fee: Money | None = None
    payment: Money | None = None
    discount_fee: Money | None = None
    adjust_fee: Money | None = None
    part_mjz_discount: Money | None = None
    divide_order_fee: Money | None = None
    """What the line really cost after sharing out the trade's discounts: the figure for accounts."""
    consign_time: Instant | None = None
    end_time: Instant | None = None
    logistics_company: str | None = None
    invoice_no: str | None = None
    is_oversold: bool | None = None
    seller_type: str | None = None


class Trade(PlatformObject):
    """One order, complete, as `taobao.trade.fullinfo.get` and the bulk export give it.

    `from_platform` raises UnreadableTradeError.
    """

    unreadable: ClassVar = UnreadableTradeError
    # Without its lines an order is not complete, whatever shape they came in.
    indispensable: ClassVar = frozenset({"orders"})

    tid: PlatformId
    type: str | None = None
    status: str
    created: Instant
    modified: Instant
    """Moves with every change of the order; whole seconds, so two changes can share one value."""
    pay_time: Instant | None = None
    consign_time: Instant | None = None
    end_time: Instant | None = None
    timeout_action_time: Instant | None = None
    seller_nick: str | None = None
    buyer_nick: str | None = None
    buyer_open_uid: str | None = None
    title: str | None = None
    """The shop's name."""
    payment: Money | None = None
    total_fee: Money | None = None
    discount_fee: Money | None = None
    adjust_fee: Money | None = None
    post_fee: Money | None = None
    received_payment: Money | None = None
    available_confirm_fee: Money | None = None
    commission_fee: Money | None = None
    cod_fee: Money | None = None
    step_trade_status: str | None = None
    step_paid_fee: Money | None = None
    num: int | None = None
    num_iid: PlatformId | None = None
    price: Money | None = None
    shipping_type: str | None = None
    buyer_message: str | None = None
    seller_memo: str | None = None
    seller_flag: int | None = None
    is_part_consign: bool | None = None
    receiver_name: str | None = None
    receiver_mobile: str | None = None
    receiver_phone: str | None = None
    receiver_address: str | None = None
    receiver_state: str | None = None
    receiver_city: str | None = None
    receiver_district: str | None = None
    receiver_town: str | None = None
    receiver_zip: str | None = None
    receiver_country: str | None = None
    oaid: str | None = None
    orders: Annotated[list[OrderLine], list_of("order")] = Field(default_factory=list)
    promotion_details: Annotated[list[dict[str, object]], list_of("promotion_detail")] = Field(
        default_factory=list
    )
    service_orders: Annotated[list[dict[str, object]], list_of("service_order")] = Field(default_factory=list)

    @classmethod
    def from_wire(cls, value: bytes | str) -> Self:
        """Read a record of the topic `orders` back."""
        return cls.model_validate_json(value)

    def to_wire(self) -> str:
        """The JSON value of the topic and of the table; absent fields are left out."""
        return self.model_dump_json(exclude_none=True)

    def content_hash(self) -> bytes:
        """Digest of the order's content without receiver fields and oaid: equal means nothing changed."""
        left_out: dict[str, bool | set[str]] = dict.fromkeys(RECEIVER_FIELDS, True)
        left_out["platform_fields"] = set(RECEIVER_FIELDS)  # those in a shape of their own
        content = self.model_dump(mode="json", exclude=left_out, exclude_none=True)
        # Sorted, because PostgreSQL's jsonb keeps no order of keys and the platform promises none.
        return hashlib.blake2b(
            orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=CONTENT_HASH_BYTES
        ).digest()
