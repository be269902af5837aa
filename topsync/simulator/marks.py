"""Fields that only some trades carry: fees, points, holds, services, marks (docs/platform/gateway.md 5.2).

A trade's number decides which of them it has, and its state decides their values, so they only change when
`modified` does. Most trades have few of them: a field without a value is absent. The forms of `trade_ext`,
`delivery_plan`, `service_tags` and `toptype` are not documented; we chose them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from topsync.simulator.drafts import Draft
from topsync.simulator.ids import oid_of, refund_id_of
from topsync.simulator.life import OrderState, TradeType
from topsync.simulator.wire import JsonObject, money, time_text

ROUNDS: Final = 97
"""Marks are dealt to trades in rounds of this many: a prime, so that each mark meets every plan."""

_DAY_SECONDS = 86400
_STEP, _COD = TradeType.STEP, TradeType.COD
_SEND_DAYS = 15
_POINTS_PER_YUAN = 1
_DATE_CHARACTERS = 10
_COD_FEE = 1000
_HOLDS = ("team_buy_hold", "share_group_hold", "top_hold", "ofp_hold")

WAREHOUSE: Final = "SIM-WH-01"

_CONSTANT: Final[tuple[JsonObject, ...]] = (
    {"credit_card_fee": "1.20"},
    {"yfx_fee": "0.50"},
    {"paid_coupon_fee": "5.00", "coupon_fee": 500},
    {"tmall_coupon_fee": 300},
    {"alipay_point": 120, "point_fee": 500, "real_point_fee": 480},
    {"is_lgtype": True},
    {"is_wt": True},
    {"is_sh_ship": True, "is_brand_sale": True},
    {"is_daixiao": True},
    {"zero_purchase": True},
    {"toptype": 1},
    {"trade_source": "ownshop"},
    {"mark_desc": "异常订单"},
    {"buyer_memo": "送人的"},
    {"general_new_presell": True},
    {"trade_ext": {"before_close_flag": 0, "before_modify_flag": 1, "ext_attributes": "sim:1"}},
    {"delivery_plan": {"plan_type": "scheduled", "plan_date": "2025-12-01"}},
)
"""Marks that never change in a trade's life."""

MarkFields = Callable[[Draft, OrderState], JsonObject]


def add_marks(trade: JsonObject, draft: Draft, state: OrderState) -> None:
    """Add to a trade the fields that only some trades have."""
    mark = draft.tid % ROUNDS
    trade["cod_status"] = _cod_status(state, mark)
    if state.paid_at is not None:
        if draft.type is not _COD:
            trade["alipay_no"] = f"20251120220014{draft.tid % 10**14:014d}"
        if state.addresses:
            trade["lm"] = "1"
    if state.finished_at is not None:
        trade["can_rate"] = not state.buyer_rated
        trade["seller_can_rate"] = not state.seller_rated
    if state.held:
        trade["forbid_consign"] = 1
        trade[_HOLDS[mark % len(_HOLDS)]] = 1
    if draft.type is _STEP:
        trade["send_time"] = time_text(state.created + _SEND_DAYS * _DAY_SECONDS)[:_DATE_CHARACTERS]
    elif draft.type is _COD:
        trade["cod_fee"] = money(_COD_FEE)
    if (more := _OF_MARK.get(mark)) is not None:
        trade.update(more if isinstance(more, dict) else more(draft, state))


def _cod_status(state: OrderState, mark: int) -> str:
    """The `cod_status`. In the field, trades without cash on delivery always have `NEW_CREATED`."""
    if state.type is not _COD:
        return "NEW_CREATED"
    if state.finished_at is not None or state.signed_at is not None:
        return "SIGN_IN"
    if any(line.shipped_at is not None for line in state.lines):
        return "ACCEPTED_BY_COMPANY"
    return "WAITING_TO_BE_SENT" if mark % 2 else "NEW_CREATED"


def _services(draft: Draft, state: OrderState) -> JsonObject:
    """A service that is sold with the first line: no goods, and never shipped."""
    item = oid_of(draft.tid, 1, len(draft.lines))
    service: JsonObject = {
        "oid": draft.tid + len(draft.lines) + 1,
        "item_oid": item,
        "service_id": 7001,
        "title": "延保服务 一年",
        "num": 1,
        "price": "19.90",
        "payment": "19.90",
        "total_fee": "19.90",
    }
    if (refund := state.lines[0].refund) is not None:
        service["refund_id"] = str(refund_id_of(draft.tid, 1, refund.attempt))
    return {"service_orders": {"service_order": [service]}}


def _logistics(draft: Draft, state: OrderState) -> JsonObject:
    fields: JsonObject = {"is_force_wlb": True}
    if state.payable_done:
        infos = [
            {
                "trade_id": draft.tid,
                "sub_trade_id": oid_of(draft.tid, position, len(draft.lines)),
                "item_id": line.item + 1,
                "store_code": WAREHOUSE,
                "consign_type": "wlb",
                "type": "1",
            }
            for position, line in enumerate(draft.lines, 1)
        ]
        fields["logistics_infos"] = {"logistics_info": infos}
    return fields


def _tags(draft: Draft, _: OrderState) -> JsonObject:
    tag = {"service_tag": "lgType=5", "service_type": "TB_CONSIGN_DATE"}
    tags = {"order_id": str(draft.tid), "logistic_service_tag_list": {"logistic_service_tag": [tag]}}
    return {"service_tags": {"logistics_tag": [tags]}}


def _snapshot(draft: Draft, _: OrderState) -> JsonObject:
    return {"snapshot_url": f"s:{draft.tid}_1"}


def _points(draft: Draft, state: OrderState) -> JsonObject:
    goods = sum(line.gross for line in draft.lines) // 100
    return {"buyer_obtain_point_fee": goods * _POINTS_PER_YUAN} if state.finished_at is not None else {}


_OF_STATE: Final[tuple[MarkFields, ...]] = (_services, _logistics, _tags, _snapshot, _points)
_OF_MARK: Final[Mapping[int, JsonObject | MarkFields]] = dict(enumerate((*_CONSTANT, *_OF_STATE)))
