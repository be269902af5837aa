"""One order as the platform sends it, for the contract's examples. Everything in it is invented."""

from __future__ import annotations

from typing import Final

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
