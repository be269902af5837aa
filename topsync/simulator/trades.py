"""A trade as the platform writes it (docs/platform/gateway.md 5.2 to 5.6; shapes as in the samples).

A field without a value is absent, never null. Item data stand on the trade only when it has one line.
"""

from __future__ import annotations

from topsync.simulator.amounts import Amounts, amounts_of
from topsync.simulator.drafts import ITEMS, Draft
from topsync.simulator.ids import oid_of, refund_id_of
from topsync.simulator.life import LineState, OrderState, TradeType
from topsync.simulator.marks import add_marks
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.wire import JsonObject, money, time_text

_STEP = TradeType.STEP
"""Looked up once: access to an enumeration's members would take most of the time of a line."""
_DAY_SECONDS = 86400
_CONFIRM_SECONDS = 10 * _DAY_SECONDS
"""Seconds after shipping when the receipt is confirmed automatically."""
_EXTENSION_SECONDS = 3 * _DAY_SECONDS
_COMMISSION_PER_CENT = 5
ITEM_BASE = 700_000_000_001
SKU_BASE = 5_000_000_000_011
CARRIER = "示例快递"
_OUTER_IIDS = tuple(f"ITEM-{item:02d}" for item in range(ITEMS))
_PICTURES = tuple(f"https://img.example.invalid/{item}.jpg" for item in range(ITEMS))

_ELSEWHERE = ("浙江省", "宁波市", "海曙区")
"""Where no order is from its start."""
_CHANGES_WITHIN_A_PLACE = 2
"""Each second change of an address is to another place or back; those between are to another street there."""

DETAIL_ONLY = frozenset(
    {
        *("buyer_message", "seller_memo", "promotion_details", "step_pay_details", "available_confirm_fee"),
        *("service_orders", "service_tags", "logistics_infos", "delivery_plan", "trade_ext"),
    }
)
"""Lists have only some of the trade fields: never these (docs/platform/gateway.md 3.1, 5.2)."""


def full_trade(
    seller: SimulatedSeller, draft: Draft, state: OrderState, amounts: Amounts | None = None
) -> JsonObject:
    """All fields of `taobao.trade.fullinfo.get` for an order in this state.

    `amounts` are its sums, if they are known already.
    """
    amounts, status = amounts or amounts_of(draft, state), state.status
    trade: JsonObject = {
        "tid": draft.tid,
        "tid_str": str(draft.tid),
        "type": str(draft.type),
        "status": status,
        "created": time_text(state.created),
        "modified": time_text(state.modified),
        **_times(draft, state, status),
        "title": seller.shop,
        "seller_nick": seller.nick,
        "seller_flag": state.memos % 6,
        "seller_memo": f"备注{state.memos}" if state.memos else "",
        "seller_rate": state.seller_rated,
        "buyer_rate": state.buyer_rated,
        "buyer_nick": draft.buyer_nick,
        "buyer_open_uid": draft.buyer_open_uid,
        **_money(seller, state, amounts),
        **_item(draft),
        "shipping_type": draft.shipping_type,
        "trade_from": draft.trade_from,
        "is_part_consign": is_part_consign(state, status),
        "new_presell": draft.type is _STEP,
        **_receiver(draft, state),
        "orders": {
            "order": [
                _order(seller, draft, state, status, amounts, position)
                for position in range(1, len(draft.lines) + 1)
            ]
        },
    }
    add_marks(trade, draft, state)
    if draft.buyer_message is not None:
        trade["buyer_message"] = draft.buyer_message
        trade["has_buyer_message"] = True
    if draft.type is _STEP:
        trade.update(_presale(draft, state, amounts))
    promotions = _promotions(draft)
    if promotions:
        trade["promotion_details"] = {"promotion_detail": promotions}
    return trade


BRIEF = frozenset({"tid", "status", "created", "modified"})
"""Fields that need no draft: a synchroniser asks lists for these, thousands of times."""


def brief_trade(tid: int, state: OrderState) -> JsonObject:
    """The BRIEF fields of a trade."""
    return {
        "tid": tid,
        "status": state.status,
        "created": time_text(state.created),
        "modified": time_text(state.modified),
    }


def listed_trade(trade: JsonObject, *, arrived: int) -> JsonObject:
    """The trade as list calls show it, with the time at which it arrived in the seller's database."""
    listed = {key: value for key, value in trade.items() if key not in DETAIL_ONLY}
    listed["has_buyer_message"] = "buyer_message" in trade
    listed["async_modified"] = time_text(arrived)
    return listed


def waybill_of(tid: int, line: int) -> str:
    """The waybill of a line's parcel."""
    return f"SIM{(tid // 100) % 10**10:010d}{line}"


def _times(draft: Draft, state: OrderState, status: str) -> JsonObject:
    shipped_at = max((line.shipped_at for line in state.lines if line.shipped_at is not None), default=None)
    times: JsonObject = {}
    if state.paid_at is not None:
        times["pay_time"] = time_text(state.paid_at)
    if shipped_at is not None:
        times["consign_time"] = time_text(shipped_at)
        if len(state.lines) == 1 and draft.shipping_type != "virtual":
            times["sid"] = waybill_of(draft.tid, 1)
    if state.ended_at is not None:
        times["end_time"] = time_text(state.ended_at)
    if shipped_at is not None and status == "WAIT_BUYER_CONFIRM_GOODS":
        extended = state.extensions * _EXTENSION_SECONDS
        times["timeout_action_time"] = time_text(shipped_at + _CONFIRM_SECONDS + extended)
    return times


def _money(seller: SimulatedSeller, state: OrderState, amounts: Amounts) -> JsonObject:
    received = amounts.payment - amounts.refunded if state.finished_at is not None else 0
    held = state.paid_at is not None and state.ended_at is None
    commission = received * _COMMISSION_PER_CENT // 100 if seller.seller_type == "B" else 0
    return {
        "payment": money(amounts.payment),
        "total_fee": money(amounts.gross),
        "discount_fee": money(amounts.discount),
        "adjust_fee": money(amounts.adjustment),
        "post_fee": money(amounts.postage),
        "received_payment": money(received),
        "available_confirm_fee": money(amounts.payment - amounts.refunded if held else 0),
        "commission_fee": money(commission),
        "has_post_fee": amounts.postage > 0,
    }


def _item(draft: Draft) -> JsonObject:
    if len(draft.lines) > 1:
        return {"num": 0}
    line = draft.lines[0]
    return {
        "num": line.quantity,
        "num_iid": ITEM_BASE + line.item,
        "price": money(line.price),
        "pic_path": _PICTURES[line.item],
    }


def _receiver(draft: Draft, state: OrderState) -> JsonObject:
    receiver = draft.receiver
    moved = state.addresses % (2 * _CHANGES_WITHIN_A_PLACE) >= _CHANGES_WITHIN_A_PLACE
    province, city, district = _ELSEWHERE if moved else (receiver.state, receiver.city, receiver.district)
    return {
        **({} if moved else receiver.more),
        "receiver_name": receiver.name,
        "receiver_state": province,
        "receiver_city": city,
        "receiver_district": district,
        "receiver_address": "示**路**号" if state.addresses % 2 == 0 else "新**街**号",
        "receiver_zip": "000000",
        "receiver_mobile": receiver.mobile,
        "oaid": draft.oaid(state.addresses),
    }


def _order(
    seller: SimulatedSeller, draft: Draft, state: OrderState, status: str, amounts: Amounts, position: int
) -> JsonObject:
    line, lived, sums = draft.lines[position - 1], state.lines[position - 1], amounts.lines[position - 1]
    oid = oid_of(draft.tid, position, len(draft.lines))
    order: JsonObject = {
        "oid": oid,
        "oid_str": str(oid),
        "num_iid": ITEM_BASE + line.item,
        "title": line.title,
        "outer_iid": _OUTER_IIDS[line.item],
        "pic_path": _PICTURES[line.item],
        "cid": line.category,
        "num": line.quantity,
        "price": money(line.price),
        # A single-line trade's line carries the trade's payment, postage and all.
        "payment": money(amounts.payment if len(draft.lines) == 1 else sums.total),
        "total_fee": money(sums.total),
        "discount_fee": money(line.discount),
        "adjust_fee": money(sums.adjustment),
        "divide_order_fee": money(sums.divided),
        "status": state.line_status(status, lived),
        "refund_status": lived.refund.status if lived.refund else "NO_REFUND",
        "seller_type": seller.seller_type,
        "seller_rate": state.seller_rated,
        "buyer_rate": state.buyer_rated,
        "is_oversold": line.is_oversold,
        "is_daixiao": False,
        "order_from": draft.trade_from.partition(",")[0],
    }
    if draft.type is _STEP:
        order["estimate_con_time"] = "付款后15天内"
    if line.sku is not None:
        order["sku_id"] = str(SKU_BASE + line.item * 100 + line.sku)
        order["sku_properties_name"] = line.sku_text
        order["outer_sku_id"] = f"SKU-{line.item:02d}-{line.sku}"
    if sums.share:
        order["part_mjz_discount"] = money(sums.share)
    _add_life(order, draft, lived, position)
    return order


def _add_life(order: JsonObject, draft: Draft, lived: LineState, position: int) -> None:
    """Add to a line the fields about what has happened to it."""
    if lived.refund is not None:
        order["refund_id"] = str(refund_id_of(draft.tid, position, lived.refund.attempt))
    if lived.shipped_at is not None:
        order["consign_time"] = time_text(lived.shipped_at)
        order["shipping_type"] = draft.shipping_type
        if draft.shipping_type != "virtual":
            order["logistics_company"] = CARRIER
            order["invoice_no"] = waybill_of(draft.tid, position)
    if lived.ended_at is not None:
        order["end_time"] = time_text(lived.ended_at)


def _presale(draft: Draft, state: OrderState, amounts: Amounts) -> JsonObject:
    deposit = draft.deposit if state.deposit_at is not None else 0
    paid_in_full = state.paid_at is not None
    final = amounts.payment - draft.deposit if paid_in_full else 0
    return {
        "step_trade_status": state.step_status,
        "step_paid_fee": money(deposit + final),
        "step_pay_details": {
            "step_pay_detail": [
                _instalment(draft.tid, 1, deposit, done=deposit > 0),
                _instalment(draft.tid, 2, final, done=paid_in_full),
            ]
        },
    }


def _instalment(tid: int, number: int, paid: int, *, done: bool) -> JsonObject:
    return {
        "id": tid,
        "step_no": number,
        "pay_status": 2 if done else 1,
        "step_actual_pay_fee": money(paid),
    }


def _promotions(draft: Draft) -> list[JsonObject]:
    promotions: list[JsonObject] = []
    if draft.shop_discount:
        promotions.append(
            {
                "id": draft.tid,
                "promotion_name": "店铺满减",
                "promotion_desc": f"满减{money(draft.shop_discount)}元",
                "discount_fee": money(draft.shop_discount),
                "promotion_id": "mjs-1000_2000",
            }
        )
    promotions.extend(
        {
            "id": oid_of(draft.tid, position, len(draft.lines)),
            "promotion_name": "限时折扣",
            "discount_fee": money(line.discount),
            "promotion_id": f"limitdiscount-1_{position}",
        }
        for position, line in enumerate(draft.lines, 1)
        if line.discount
    )
    return promotions


def is_part_consign(state: OrderState, status: str) -> bool:
    """Whether a trade with this status is sent in several parcels."""
    if len(state.lines) == 1:
        return False
    parcels = {line.shipped_at for line in state.open_lines if line.shipped_at is not None}
    return len(parcels) > 1 or status == "SELLER_CONSIGNED_PART"
