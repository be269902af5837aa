"""What an order has from its first second on: buyer, items, prices, address. A pure function of its number.

All names, shops and addresses are invented; receivers come masked, as the platform gives them to
developers (docs/platform/gateway.md 5.7).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from topsync.simulator.dice import Dice
from topsync.simulator.ids import OrderKey, tid_of
from topsync.simulator.life import DELIVERED_AT_ONCE, TradeType
from topsync.simulator.plans import LifePlan

_ITEMS = (
    ("示例棉质短袖T恤 男女同款", 5900, 50000001),
    ("示例保温杯 500ml", 8900, 50000002),
    ("示例无线鼠标 静音款", 4950, 50000003),
    ("示例坚果礼盒 “每日”装 750g", 12800, 50000004),
    ("示例纯牛奶 250ml*16盒", 6480, 50000005),
    ("示例加厚羽绒服 & 内胆", 49900, 50000006),
    ("示例儿童绘本(全10册)", 9990, 50000007),
    ("示例蓝牙耳机 <降噪>", 29900, 50000008),
    ("示例洗发水 去屑 400ml", 3980, 50000009),
    ("示例陶瓷餐具套装 16件", 16800, 50000010),
    ("示例瑜伽垫 10mm", 7900, 50000011),
    ("示例台灯 护眼 LED", 13900, 50000012),
)
ITEMS = len(_ITEMS)
"""How many items the shops of this world sell."""

_SKUS = (
    "颜色分类:蓝色;尺码:M",
    "颜色分类:黑色;尺码:L",
    "颜色分类:米白;尺码:均码",
    "净含量:500ml",
    "规格:礼盒装",
)
_PLACES = (
    ("浙江省", "杭州市", "余杭区"),
    ("广东省", "深圳市", "南山区"),
    ("海外", "", ""),
    ("上海", "上海市", "浦东新区"),
    ("北京", "北京市", "朝阳区"),
    ("四川省", "成都市", "武侯区"),
    ("江苏省", "苏州市", "昆山市"),
    ("湖北省", "", "仙桃市"),  # a county-level city sits in the district, with an empty city
    ("新疆维吾尔自治区", "乌鲁木齐市", "天山区"),
)
_MORE: Mapping[str, Mapping[str, str]] = {
    "余杭区": {"receiver_town": "示例街道"},
    "昆山市": {"receiver_town": "示例镇", "receiver_phone": "0512-****0000"},
    "": {"receiver_country": "新加坡"},
}
"""Fields that only addressees of some places have, masked where they must be."""
_NOTHING_MORE: Mapping[str, str] = {}
_SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗"
_MESSAGES = (
    "请发快一点",
    "周末不在家，放门卫",
    '要"蓝色"的\\别发错',
    "第一行\n第二行",
    "行\u2028分隔符",  # str.splitlines() splits here; a client must not
    "谢谢🙏",
    "A&B <b>加急</b>",
)
_TRADE_FROM = ("WAP,WAP", "WAP", "TAOBAO", "TOP", "WAP,JHS")
_LINES = (1,) * 55 + (2,) * 25 + (3,) * 12 + (4,) * 5 + (5,) * 3
_QUANTITIES = (1, 1, 1, 1, 2, 2, 3)
_POSTAGES = (600, 800, 1000)
_SHIPPINGS = ("express", "express", "express", "post")
_OAID_DIGITS = 24
_REDUCED_PER_CENT = 35
_WITH_SKU_PER_CENT = 75
_DISCOUNTED_PER_CENT = 40
_OVERSOLD_PER_CENT = 1

_ORDER_BOUNDS = (len(_LINES), 200_000, 100)
_TENS = 10
"""A price is the item's price plus zero to nine times ten cents."""
_GOODS = tuple(product(_QUANTITIES, range(_TENS), range(len(_ITEMS))))
_CHOICES = tuple(
    sku if with_sku < _WITH_SKU_PER_CENT else None for sku, with_sku in product(range(len(_SKUS)), range(100))
)
_LUCKS = tuple(
    (discounted < _DISCOUNTED_PER_CENT, oversold < _OVERSOLD_PER_CENT)
    for oversold, discounted in product(range(100), range(100))
)
_LINE_BOUNDS = (len(_GOODS), len(_CHOICES), len(_LUCKS))
"""Kept few, because each draw takes time: a single index for all of these tables."""
_GOODS_BOUNDS = (len(_PLACES), len(_SURNAMES), 10_000, 16**_OAID_DIGITS, len(_TRADE_FROM))
_PARCEL_BOUNDS = (*_GOODS_BOUNDS[:-1], len(_SHIPPINGS), len(_TRADE_FROM))

_KEPT_LINES = 1 << 14
"""More than there are different lines."""


class DraftLine(NamedTuple):
    """A line as ordered; money in cents."""

    item: int
    title: str
    category: int
    sku: int | None
    sku_text: str
    quantity: int
    price: int
    gross: int
    """Price times quantity."""
    discount: int
    is_oversold: bool

    @property
    def fee_change(self) -> int:
        """By how many cents a `modify_fee` makes the line cheaper."""
        return max(1, (self.gross - self.discount) // 20)


class Addressee(NamedTuple):
    """The addressee, masked as received."""

    name: str
    state: str
    city: str
    district: str
    mobile: str
    oaid: str
    more: Mapping[str, str]
    """Fields that only some addressees have."""


class Draft(NamedTuple):
    """An order as it was placed; money in cents."""

    key: OrderKey
    tid: int
    type: TradeType
    lines: tuple[DraftLine, ...]
    shop_discount: int
    """A discount on the whole trade, divided among the lines."""
    postage: int
    deposit: int
    buyer_nick: str
    buyer_open_uid: str
    buyer_message: str | None
    receiver: Addressee
    shipping_type: str
    trade_from: str

    def oaid(self, addresses: int) -> str:
        """The addressee id (oaid), which changes with each change of the address."""
        return f"{self.receiver.oaid}{addresses:02d}"


def line_count(seed: int, key: OrderKey, plan: LifePlan) -> int:
    """How many lines the order with this number has; its status depends on nothing else of the draft."""
    return _line_count(Dice(seed, b"order", key.seller, key.number).below(len(_LINES)), plan)


def _line_count(drawn: int, plan: LifePlan) -> int:
    return min(max(_LINES[drawn], plan.min_lines), plan.max_lines)


def draft_of(seed: int, key: OrderKey, plan: LifePlan) -> Draft:
    """The order with this number."""
    dice = Dice(seed, b"order", key.seller, key.number)
    wanted, buyer, reduced = dice.draw(_ORDER_BOUNDS)
    count = _line_count(wanted, plan)
    lines = [_line(Dice(seed, b"line", key.seller, key.number, position)) for position in range(count)]
    goods = 0
    for line in lines:
        goods += line.gross - line.discount
    parcel = plan.type not in DELIVERED_AT_ONCE
    postage = dice.pick(_POSTAGES) if parcel and dice.chance(25) else 0
    message = dice.pick(_MESSAGES) if dice.chance(8) else None
    place, surname, digits, oaid, *shipping, origin = dice.draw(_PARCEL_BOUNDS if parcel else _GOODS_BOUNDS)
    province, city, district = _PLACES[place]
    return Draft(
        key=key,
        tid=tid_of(key),
        type=plan.type,
        lines=tuple(lines),
        shop_discount=goods * 6 // 100 // 100 * 100 if reduced < _REDUCED_PER_CENT else 0,
        postage=postage,
        deposit=max(100, goods // 10),
        buyer_nick=f"{_SURNAMES[buyer % len(_SURNAMES)]}**",
        buyer_open_uid=f"AASim{Dice(seed, b'buyer', buyer).token(22)}",
        buyer_message=message,
        receiver=Addressee(
            name=f"{_SURNAMES[surname]}**",
            state=province,
            city=city,
            district=district,
            mobile=f"*******{digits:04d}",
            oaid=f"1sim{oaid:0{_OAID_DIGITS}x}",
            more=_MORE.get(district, _NOTHING_MORE),
        ),
        shipping_type=_SHIPPINGS[shipping[0]] if shipping else "virtual",
        trade_from=_TRADE_FROM[origin],
    )


def _line(dice: Dice) -> DraftLine:
    goods, choice, luck = dice.draw(_LINE_BOUNDS)
    return _line_of(_GOODS[goods], _CHOICES[choice], _LUCKS[luck])


@lru_cache(maxsize=_KEPT_LINES)
def _line_of(goods: tuple[int, int, int], sku: int | None, luck: tuple[bool, bool]) -> DraftLine:
    quantity, tens, item = goods
    is_discounted, is_oversold = luck
    title, price, category = _ITEMS[item]
    price += tens * 10
    return DraftLine(
        item=item,
        title=title,
        category=category,
        sku=sku,
        sku_text="" if sku is None else _SKUS[sku],
        quantity=quantity,
        price=price,
        gross=price * quantity,
        discount=price * quantity // 10 if is_discounted else 0,
        is_oversold=is_oversold,
    )
