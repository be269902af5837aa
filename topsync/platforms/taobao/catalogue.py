"""The platform's names that we ask for: fields, trade types, message topics."""

from __future__ import annotations

from typing import Final

LIST_FIELDS: Final = ("tid", "modified", "created", "status")
"""The only fields taken from lists: on sale days the others are missing or stale (docs/platform/gateway.md
6.3)."""

CREATED_FIELDS: Final = ("tid", "created", "modified", "status")
"""Lists by creation are read whole, page after page: the fewer fields, the faster (docs/platform/gateway.md
3.6 says so of the export)."""

ARRIVAL_FIELDS: Final = (*LIST_FIELDS, "async_modified")
"""Lists by arrival also take the time at which the state reached the seller's database
(docs/platform/gateway.md 3.3)."""

FULLINFO_FIELDS: Final = (
    # identity and state
    *("tid", "tid_str", "type", "status", "title", "seller_nick", "buyer_nick", "buyer_open_uid"),
    # life points
    *("created", "pay_time", "consign_time", "end_time", "modified", "async_modified", "timeout_action_time"),
    # money
    *("payment", "total_fee", "discount_fee", "adjust_fee", "post_fee", "received_payment"),
    *("available_confirm_fee", "has_post_fee", "commission_fee", "credit_card_fee", "paid_coupon_fee"),
    *("yfx_fee", "cod_fee", "tmall_coupon_fee", "coupon_fee"),
    *("point_fee", "real_point_fee", "buyer_obtain_point_fee", "alipay_point"),
    # goods of a single-order trade
    *("num", "num_iid", "price", "pic_path", "snapshot_url"),
    # delivery; `oaid` needs the receiver's name, mobile, phone, address and `created`
    *("shipping_type", "receiver_name", "receiver_mobile", "receiver_phone", "receiver_address"),
    *("receiver_state", "receiver_city", "receiver_district", "receiver_town", "receiver_zip"),
    *("receiver_country", "oaid", "send_time", "is_part_consign", "lm", "sid", "cod_status"),
    # notes
    *("buyer_message", "has_buyer_message", "buyer_memo", "seller_memo", "seller_flag"),
    # presale
    *("step_trade_status", "step_paid_fee", "step_pay_details", "new_presell", "general_new_presell"),
    # origin and marks
    *("trade_from", "trade_source", "mark_desc", "toptype", "is_daixiao", "is_brand_sale", "is_force_wlb"),
    *("is_lgtype", "is_wt", "zero_purchase", "is_sh_ship", "alipay_no"),
    # holds: do not ship
    *("top_hold", "team_buy_hold", "share_group_hold", "ofp_hold", "forbid_consign"),
    # rating
    *("seller_rate", "buyer_rate", "can_rate", "seller_can_rate"),
    # lists and objects; a name without a prefix asks for all of its fields
    *("orders", "promotion_details", "service_orders", "service_tags", "logistics_infos"),
    *("delivery_plan", "trade_ext"),
)
"""All useful fields: the platform sends only what is asked for (docs/platform/gateway.md 3.4, 5.2 to 5.4)."""

REFUND_LIST_FIELDS: Final = ("refund_id", "tid", "modified", "status")
"""The only fields taken from lists of refunds, for the same reason."""

REFUND_FIELDS: Final = (
    *("refund_id", "tid", "oid", "status", "order_status", "good_status", "has_good_return"),
    *("refund_phase", "refund_version", "dispute_type", "created", "modified"),
    *("total_fee", "refund_fee", "payment", "price", "num", "num_iid", "title", "sku", "outer_id"),
    *("reason", "desc", "cs_status", "advance_status", "operation_contraint", "refund_remind_timeout"),
    *("sid", "company_name", "good_return_time", "shipping_type", "attribute"),
    *("seller_nick", "buyer_nick", "buyer_open_uid"),
)
"""All useful fields of a refund (docs/platform/gateway.md 3.10). `operation_contraint` is not our spelling.

`address`, where goods are returned to, is left out: nobody needs it here, and it is personal.
"""

ALL_TRADE_TYPES: Final = (
    *("fixed", "auction", "guarantee_trade", "step", "independent_simple_trade", "independent_shop_trade"),
    *("auto_delivery", "ec", "cod", "game_equipment", "shopex_trade", "netcn_trade", "external_trade"),
    *("instant_trade", "b2c_cod", "hotel_trade", "super_market_trade", "super_market_cod_trade", "taohua"),
    *("waimai", "o2o_offlinetrade", "nopaid", "eticket", "tmall_i18n", "insurance_plus", "finance"),
    *("pre_auth_type", "lazada", "fenxiao", "travel"),
)
"""All trade types that are documented anywhere: without `type`, lists silently hide trades
(docs/platform/gateway.md 5.5)."""

SUBSCRIBED_TOPICS: Final = (
    *("taobao_trade_TradeCreate", "taobao_trade_TradeAlipayCreate", "taobao_trade_TradeModifyFee"),
    *("taobao_trade_TradeCloseAndModifyDetailOrder", "taobao_trade_TradeClose"),
    *("taobao_trade_TradeBuyerPay", "taobao_trade_TradeBuyerStepPay", "taobao_trade_TradeSellerShip"),
    *("taobao_trade_TradePartlySellerShip", "taobao_trade_TradeDelayConfirmPay"),
    *("taobao_trade_TradePartlyRefund", "taobao_trade_TradePartlyConfirmPay", "taobao_trade_TradeSuccess"),
    *("taobao_trade_TradeTimeoutRemind", "taobao_trade_TradeRated", "taobao_trade_TradeMemoModified"),
    *("taobao_trade_TradeLogisticsAddressChanged", "taobao_trade_TradeChanged"),
    *("taobao_trade_OrderSkuChanged", "taobao_trade_AdvanceDisburse"),
    *("taobao_refund_RefundCreated", "taobao_refund_RefundSellerAgreeAgreement"),
    *("taobao_refund_RefundSellerRefuseAgreement", "taobao_refund_RefundBuyerModifyAgreement"),
    *("taobao_refund_RefundBuyerReturnGoods", "taobao_refund_RefundCreateMessage"),
    *("taobao_refund_RefundClosed", "taobao_refund_RefundSuccess"),
    *("taobao_top_AuthCancel", "taobao_topats_TaskComplete"),
)
"""The full list. `taobao.tmc.user.permit` overwrites, so a partial list unsubscribes the other topics
(3.12)."""
