"""A full order as topsync publishes and stores it: `Trade` with its `OrderLine`s.

Names are the platform's (docs/platform/gateway.md 5.2 and 5.4), types are ours: see `schemas.types`. Lists
lose the platform's double nesting (`orders.order` becomes `orders`). Other fields that the platform sends,
and optional fields of an unknown shape, are carried unchanged under `platform_fields`, so nothing is lost
when the platform changes something.

Receiver fields are masked by the platform and stored as received; they never go into a log or a metric.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas import content
from schemas.opaque import Opaque
from schemas.platform_object import PlatformObject, UnreadableError
from schemas.types import Count, Instant, ListOf, Money, PlatformId

MASKED_FIELDS = frozenset(
    {
        *("receiver_name", "receiver_mobile", "receiver_phone", "receiver_address", "receiver_zip"),
        "oaid",
    }
)
"""No content: they change by masking alone, without a change of the order (docs/platform/gateway.md 5.7). The
postal code counts among them: it is said to come unmasked, and what was captured is `000000` (5.2)."""

PLACE_FIELDS = frozenset(
    {"receiver_country", "receiver_state", "receiver_city", "receiver_district", "receiver_town"}
)
"""Where the parcel goes, as far as it comes unmasked (5.2): content."""

RECEIVER_FIELDS = MASKED_FIELDS | PLACE_FIELDS
"""All that is personal of the receiver, masked or not."""

CARRIED = frozenset(
    {
        *("tid_str", "async_modified", "has_post_fee", "credit_card_fee", "paid_coupon_fee", "yfx_fee"),
        *("tmall_coupon_fee", "coupon_fee", "point_fee", "real_point_fee", "buyer_obtain_point_fee"),
        *("alipay_point", "alipay_no", "pic_path", "snapshot_url", "send_time", "lm", "sid", "cod_status"),
        *("has_buyer_message", "buyer_memo", "step_pay_details", "new_presell", "general_new_presell"),
        *("trade_from", "trade_source", "mark_desc", "toptype", "is_daixiao", "is_brand_sale"),
        *("is_force_wlb", "is_lgtype", "is_wt", "zero_purchase", "is_sh_ship", "top_hold", "team_buy_hold"),
        *("share_group_hold", "ofp_hold", "forbid_consign", "seller_rate", "buyer_rate", "can_rate"),
        *("seller_can_rate", "service_tags", "logistics_infos", "delivery_plan", "trade_ext"),
    }
)
"""Fields that we ask for and have no type for (5.2)."""

CARRIED_OF_A_LINE = frozenset(
    {
        *("oid_str", "pic_path", "cid", "item_meal_id", "item_meal_name", "shipping_type"),
        *("timeout_action_time", "special_refund_type", "bind_oid", "bind_oids", "order_from"),
        *("is_service_order", "is_daixiao", "is_www", "store_code", "estimate_con_time", "customization"),
        *("zhengji_status", "is_free_gift", "gift_mids", "combine_item_info", "modify_address"),
        *("seller_rate", "buyer_rate", "snapshot_url"),
    }
)
"""The same for order lines (5.4)."""

OPAQUE = {
    "promotion_details": frozenset(
        {
            *("id", "promotion_name", "promotion_desc", "promotion_id", "discount_fee", "gift_item_name"),
            *("gift_item_id", "gift_item_num", "kd_discount_fee", "kd_child_discount_fee"),
        }
    ),
    "service_orders": frozenset(
        {
            *("oid", "item_oid", "service_id", "title", "num", "price", "payment", "total_fee"),
            "refund_id",
        }
    ),
}
"""What is known of the objects in these lists (5.4)."""

LEFT_OUT = frozenset({"timeout_action_time", "commission_fee", "available_confirm_fee"})
LEFT_OUT_OF_A_LINE = frozenset({"refund_id", "special_refund_type", "timeout_action_time"})
"""Fields that the platform does not promise, on sale days and on other days (6.3)."""


class UnreadableTradeError(UnreadableError):
    """A trade lacks what every trade must have. The text names fields and problems, never values."""


class OrderLine(PlatformObject):
    """A line of a trade (the platform calls it an order). `oid` equals `tid` if there is only one line."""

    carried: ClassVar = CARRIED_OF_A_LINE
    left_out: ClassVar = LEFT_OUT_OF_A_LINE

    oid: PlatformId
    """Id of the line; equals `tid` if the order has only one line."""
    status: str | None = None
    """As the order's status, without the values for partly shipped orders."""
    refund_status: str | None = None
    """Status of the latest refund; `NO_REFUND` without a refund, `SUCCESS` when money went back."""
    refund_id: PlatformId | None = None
    """Id of the latest refund; absent on the platform's peak days."""
    num_iid: PlatformId | None = None
    """The item."""
    sku_id: PlatformId | None = None
    """The variant of the item."""
    sku_properties_name: str | None = None
    """The variant in words, e.g. colour and size."""
    outer_iid: str | None = None
    """The merchant's own code of the item; may be empty or stale."""
    outer_sku_id: str | None = None
    """The merchant's own code of the variant; may be empty or stale."""
    title: str | None = None
    """The item's title."""
    num: Count | None = None
    """How many pieces."""
    price: Money | None = None
    """Of one piece."""
    total_fee: Money | None = None
    """`price` times `num`, with the line's adjustment, less the line's discount."""
    payment: Money | None = None
    """What the buyer pays for the line; with a single line, the whole order's `payment`."""
    discount_fee: Money | None = None
    """Discount of the line itself."""
    adjust_fee: Money | None = None
    """Manual change by the seller."""
    part_mjz_discount: Money | None = None
    """The line's share of the order's discount."""
    divide_order_fee: Money | None = None
    """What the line really cost after its share of the trade's discounts: the amount for accounting."""
    consign_time: Instant | None = None
    """When the line was shipped."""
    end_time: Instant | None = None
    """When the line was finished or closed."""
    logistics_company: str | None = None
    """The carrier of the parcel."""
    invoice_no: str | None = None
    """The waybill."""
    is_oversold: bool | None = None
    """Sold beyond the stock."""
    seller_type: str | None = None
    """`B` Tmall, `C` Taobao."""


class Trade(PlatformObject):
    """A complete order, as `taobao.trade.fullinfo.get` and the bulk export give it."""

    # The error that `from_platform` raises.
    unreadable: ClassVar = UnreadableTradeError
    # Each order has lines. Without them it is not complete: storing it would remove the lines of a stored
    # order.
    indispensable: ClassVar = frozenset({"orders"})
    carried: ClassVar = CARRIED
    not_content: ClassVar = MASKED_FIELDS
    # A place that does not come is no other place; where a stored order lacks it, it makes one version.
    left_out: ClassVar = LEFT_OUT | PLACE_FIELDS
    opaque: ClassVar = OPAQUE
    head: ClassVar = frozenset({"tid", "type", "status", "created", "modified"})
    parts: ClassVar = {"orders": OrderLine}

    tid: PlatformId
    """Id of the order."""
    type: str | None = None
    """E.g. `fixed`, `step` (presale), `cod` (cash on delivery); new values appear."""
    status: str
    """E.g. `WAIT_BUYER_PAY`, `WAIT_SELLER_SEND_GOODS`, `TRADE_FINISHED`."""
    created: Instant
    """When the order was placed."""
    modified: Instant
    """Moves with every change of the order; whole seconds, so two changes can have the same value."""
    pay_time: Instant | None = None
    """When it was paid in full."""
    consign_time: Instant | None = None
    """When it was shipped, or last shipped in part."""
    end_time: Instant | None = None
    """When it was finished or closed."""
    timeout_action_time: Instant | None = None
    """When the platform acts by itself, e.g. confirms the receipt."""
    seller_nick: str | None = None
    """The seller's nick."""
    buyer_nick: str | None = None
    """Masked by the platform."""
    buyer_open_uid: str | None = None
    """The buyer, opaque but stable: the key of a customer."""
    title: str | None = None
    """The shop's name."""
    payment: Money | None = None
    """What the buyer pays, with postage."""
    total_fee: Money | None = None
    """Sum of `price` times `num` over the lines."""
    discount_fee: Money | None = None
    """Discounts on the order as a whole."""
    adjust_fee: Money | None = None
    """Manual change of the price; 0 if there are several lines."""
    post_fee: Money | None = None
    """Postage."""
    received_payment: Money | None = None
    """Paid out to the seller so far."""
    available_confirm_fee: Money | None = None
    """Paid, but not confirmed by the buyer yet."""
    commission_fee: Money | None = None
    """Known after success only."""
    cod_fee: Money | None = None
    """Fee for cash on delivery."""
    step_trade_status: str | None = None
    """State of a presale: `status` stays `WAIT_BUYER_PAY` until the rest is paid."""
    step_paid_fee: Money | None = None
    """What has been paid of a presale so far."""
    num: Count | None = None
    """Pieces of an order with a single line; 0 otherwise."""
    num_iid: PlatformId | None = None
    """The item of an order with a single line."""
    price: Money | None = None
    """The price of a piece, in an order with a single line."""
    shipping_type: str | None = None
    """E.g. `express`, `virtual`."""
    buyer_message: str | None = None
    """The buyer's note."""
    seller_memo: str | None = None
    """The seller's note."""
    seller_flag: Count | None = None
    """Colour of the seller's note, 0 to 5."""
    is_part_consign: bool | None = None
    """Whether there are several parcels: then the lines say what was shipped when."""
    receiver_name: str | None = None
    """Masked by the platform, and carried as received."""
    receiver_mobile: str | None = None
    """Masked by the platform, and carried as received."""
    receiver_phone: str | None = None
    """Masked by the platform, and carried as received."""
    receiver_address: str | None = None
    """Masked by the platform, and carried as received."""
    receiver_state: str | None = None
    """Province; not masked."""
    receiver_city: str | None = None
    """Not masked; empty for a county-level city, which is in the district."""
    receiver_district: str | None = None
    """Not masked."""
    receiver_town: str | None = None
    """Not masked."""
    receiver_zip: str | None = None
    """Often `000000`."""
    receiver_country: str | None = None
    """The country, if it is not China."""
    oaid: str | None = None
    """The addressee, opaque; the same for a week at most. It is not the key of a customer."""
    orders: Annotated[list[OrderLine], ListOf("order")] = Field(default_factory=list)
    """The lines."""
    promotion_details: Annotated[list[dict[str, Opaque]], ListOf("promotion_detail")] = Field(
        default_factory=list
    )
    """In the platform's own form."""
    service_orders: Annotated[list[dict[str, Opaque]], ListOf("service_order")] = Field(default_factory=list)
    """Services, which are not shipped; in the platform's own form."""

    def content_hash(self) -> bytes:
        """Digest of the order's content (`schemas.content`): if it is equal, the content has not changed."""
        return content.content_hash(Trade, self.to_json())
