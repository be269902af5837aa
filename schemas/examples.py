"""An order and a refund as the platform sends them, for the contract's examples. All of it is invented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

TRADE: Final[dict[str, object]] = {
    "tid": 4000000000000000101,
    "tid_str": "4000000000000000101",
    "type": "fixed",
    "status": "WAIT_SELLER_SEND_GOODS",
    "created": "2026-11-20 10:01:07",
    "pay_time": "2026-11-20 10:05:44",
    "modified": "2026-11-20 10:05:44",
    "title": "示例旗舰店",
    "seller_nick": "示例旗舰店",
    "buyer_nick": "王**",
    "buyer_open_uid": "AAExampleBuyer000000000000001",
    "payment": "186.00",
    "total_fee": "196.00",
    "discount_fee": "10.00",
    "post_fee": "0.00",
    "shipping_type": "express",
    "receiver_name": "王**",
    "receiver_mobile": "*******4321",
    "receiver_address": "示**路**号",
    "receiver_state": "浙江省",
    "receiver_city": "杭州市",
    "receiver_district": "余杭区",
    "oaid": "1exampleaddressee0000000001",
    "orders": {
        "order": [
            {
                "oid": 4000000000000000102,
                "num_iid": 700000000001,
                "sku_id": "5000000000011",
                "sku_properties_name": "颜色分类:蓝色;尺码:M",
                "outer_iid": "ITEM-00",
                "title": "示例棉质短袖T恤",
                "num": 2,
                "price": "59.00",
                "total_fee": "118.00",
                "payment": "118.00",
                "divide_order_fee": "111.98",
                "status": "WAIT_SELLER_SEND_GOODS",
                "refund_status": "NO_REFUND",
                "seller_type": "B",
            },
            {
                "oid": 4000000000000000103,
                "num_iid": 700000000005,
                "outer_iid": "ITEM-04",
                "title": "示例纯牛奶 250ml*16盒",
                "num": 1,
                "price": "78.00",
                "total_fee": "78.00",
                "payment": "78.00",
                "divide_order_fee": "74.02",
                "status": "WAIT_SELLER_SEND_GOODS",
                "refund_status": "NO_REFUND",
                "seller_type": "B",
            },
        ]
    },
}

REFUND: Final[dict[str, object]] = {
    "refund_id": "180000000000000101",
    "tid": 4000000000000000101,
    "oid": 4000000000000000103,
    "status": "WAIT_SELLER_CONFIRM_GOODS",
    "order_status": "WAIT_BUYER_CONFIRM_GOODS",
    "good_status": "BUYER_RETURNED_GOODS",
    "has_good_return": True,
    "refund_phase": "onsale",
    "dispute_type": "REFUND_AND_RETURN",
    "refund_version": 1763804645000,
    "created": "2026-11-21 09:12:30",
    "modified": "2026-11-22 17:44:05",
    "total_fee": "186.00",
    "refund_fee": "74.02",
    "payment": "111.98",
    "price": "78.00",
    "num": 1,
    "num_iid": 700000000005,
    "title": "示例纯牛奶 250ml*16盒",
    "outer_id": "ITEM-04",
    "reason": "质量问题",
    "cs_status": 1,
    "advance_status": 0,
    "company_name": "示例快递",
    "sid": "R7700000000101",
    "good_return_time": "2026-11-22 17:44:05",
    "seller_nick": "示例旗舰店",
    "buyer_nick": "王**",
    "buyer_open_uid": "AAExampleBuyer000000000000001",
    "refund_remind_timeout": {"exist_timeout": True, "remind_type": 1, "timeout": "2026-12-02 17:44:05"},
}


def altered(sample: Mapping[str, Any], alteration: Mapping[str, Any]) -> dict[str, Any]:
    """A sample with some of it otherwise: see `schemas.delta.Declaration.before`."""
    made = dict(sample)
    for name, value in alteration.items():
        was = made.get(name)
        if value is None:
            made.pop(name, None)
        elif isinstance(was, Mapping):
            made[name] = altered(was, value)
        elif isinstance(was, list):
            made[name] = [altered(row, other) for row, other in zip(was, value, strict=True)]
        else:
            made[name] = value
    return made
