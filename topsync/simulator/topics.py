"""Which messages a change sends, and their content (docs/platform/channel.md 7.1 and 7.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from topsync.simulator.amounts import Amounts
from topsync.simulator.ids import oid_of, refund_id_of
from topsync.simulator.life import EventKind, RefundState, TradeType
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.wire import JsonObject, money, time_text
from topsync.simulator.world import Happening

TASK_COMPLETE = "taobao_topats_TaskComplete"
AUTH_CANCEL = "taobao_top_AuthCancel"

_TRADE = "taobao_trade_"
_REFUND = "taobao_refund_"

_TRADE_EVENTS: Mapping[EventKind, tuple[str, ...]] = {
    EventKind.MODIFY_FEE: ("TradeModifyFee",),
    EventKind.PAY: ("TradeBuyerPay",),
    EventKind.PAY_DEPOSIT: ("TradeBuyerStepPay",),
    # No topic is documented for these.
    EventKind.CARD: ("TradeChanged",),
    EventKind.PRE_AUTH: ("TradeChanged",),
    EventKind.HOLD: ("TradeChanged",),
    EventKind.RELEASE: ("TradeChanged",),
    EventKind.CLOSE_UNPAID: ("TradeClose",),
    EventKind.SHIP: ("TradeSellerShip",),
    EventKind.SHIP_LINE: ("TradePartlySellerShip",),
    EventKind.EXTEND: ("TradeDelayConfirmPay",),
    EventKind.SIGN: ("TradeChanged",),
    EventKind.FINISH: ("TradeSuccess",),
    EventKind.RATE: ("TradeRated",),
    EventKind.MEMO: ("TradeMemoModified",),
}

_OF_A_LINE = frozenset(
    f"{_TRADE}{name}"
    for name in (
        *("TradeCreate", "TradeAlipayCreate", "TradeBuyerPay", "TradeDelayConfirmPay", "TradeSuccess"),
        *("TradeChanged", "TradeMemoModified", "TradeRated"),
    )
)
"""Topics for which the catalogue lists `oid` as always there: each message is about a line (7.1)."""

_REFUND_EVENTS: Mapping[EventKind, str] = {
    EventKind.REFUND_CREATE: "RefundCreated",
    EventKind.REFUND_AGREE: "RefundSellerAgreeAgreement",
    EventKind.REFUND_REFUSE: "RefundSellerRefuseAgreement",
    EventKind.REFUND_RETURN: "RefundBuyerReturnGoods",
    EventKind.REFUND_CLOSE: "RefundClosed",
    EventKind.REFUND_SUCCESS: "RefundSuccess",
}

_MESSAGE_TYPES: Mapping[TradeType, str] = {
    # Messages have this type, although no order ever has it (docs/platform/gateway.md 3.12).
    TradeType.FIXED: "guarantee_trade",
    TradeType.ETICKET: "guarantee_trade",
}


class Notice(NamedTuple):
    """A message before it has a seller and a group."""

    topic: str
    content: JsonObject
    data_id: str
    """The business id that the topic's page names: the trade number, or the refund's for a paid refund."""


def notices_of(happening: Happening, quirks: PlatformQuirks) -> list[Notice]:
    """The messages that a change sends, in the order in which the platform would publish them."""
    kind = happening.event.kind
    amounts = happening.amounts
    if kind in _REFUND_EVENTS:
        return _refund_notices(happening, amounts)
    return [
        _trade_notice(happening, amounts, topic, line)
        for topic in _trade_topics(happening, quirks)
        for line in _lines_with_message(happening, topic, quirks)
    ]


def _trade_topics(happening: Happening, quirks: PlatformQuirks) -> list[str]:
    match happening.event.kind:
        case EventKind.ADDRESS:
            return [quirks.address_topic]
        case EventKind.CREATE:
            # Cash on delivery and contracts without payment have no Alipay trade.
            alipay = happening.draft.type not in (TradeType.COD, TradeType.NOPAID, TradeType.PRE_AUTH)
            return [f"{_TRADE}TradeCreate", *([f"{_TRADE}TradeAlipayCreate"] if alipay else [])]
        case kind:
            return [f"{_TRADE}{name}" for name in _TRADE_EVENTS[kind]]


def _lines_with_message(happening: Happening, topic: str, quirks: PlatformQuirks) -> Sequence[int]:
    """The positions of the lines that get a message each: only lines that the change is about."""
    line, lines = happening.event.line, len(happening.draft.lines)
    if line or not quirks.messages_per_line or topic not in _OF_A_LINE:
        return (max(1, line),)
    return range(1, lines + 1)


def _trade_notice(happening: Happening, amounts: Amounts, topic: str, line: int) -> Notice:
    draft, event = happening.draft, happening.event
    content: JsonObject = {
        "buyer_nick": draft.buyer_nick,
        "buyer_open_uid": draft.buyer_open_uid,
        "payment": money(amounts.payment),
        "oid": oid_of(draft.tid, line, len(draft.lines)),
        "tid": draft.tid,
        "type": _MESSAGE_TYPES.get(draft.type, draft.type.value),
        "seller_nick": happening.seller.nick,
    }
    extra = _EXTRAS.get(event.kind, _status_of)
    content.update(extra(happening, amounts))
    return Notice(topic, content, str(draft.tid))


def _status_of(happening: Happening, _: Amounts) -> JsonObject:
    return {"status": happening.state.status}


def _payment_of(_: Happening, amounts: Amounts) -> JsonObject:
    return {"post_fee": money(amounts.postage)}


def _deposit_of(happening: Happening, _: Amounts) -> JsonObject:
    return {"payment": money(happening.draft.deposit)}


def _memo_of(happening: Happening, _: Amounts) -> JsonObject:
    state = happening.state
    return {
        "status": state.status,
        "action_type": "seller",
        "seller_flag": state.memos % 6,
        "seller_memo": f"备注{state.memos}",
    }


def _rating_of(happening: Happening, _: Amounts) -> JsonObject:
    return {"status": happening.state.status, "rater": "seller" if happening.state.seller_rated else "buyer"}


_EXTRAS: Mapping[EventKind, Callable[[Happening, Amounts], JsonObject]] = {
    EventKind.PAY: _payment_of,
    EventKind.PAY_DEPOSIT: _deposit_of,
    EventKind.MEMO: _memo_of,
    EventKind.RATE: _rating_of,
}


def _refund_notices(happening: Happening, amounts: Amounts) -> list[Notice]:
    event, state = happening.event, happening.state
    refund = state.lines[event.line - 1].refund
    if refund is None:
        raise ValueError(f"{event.kind} of line {event.line} left no refund")
    notices = [_refund_notice(happening, amounts, refund)]
    if event.kind is EventKind.REFUND_SUCCESS and state.finished_at is None:
        closed = "TradePartlyRefund" if state.open_lines else "TradeClose"
        notices.append(_trade_notice(happening, amounts, f"{_TRADE}{closed}", event.line))
    return notices


def _refund_notice(happening: Happening, amounts: Amounts, refund: RefundState) -> Notice:
    draft, event = happening.draft, happening.event
    refund_id = refund_id_of(draft.tid, event.line, refund.attempt)
    content: JsonObject = {
        "buyer_nick": draft.buyer_nick,
        "buyer_open_uid": draft.buyer_open_uid,
        "refund_fee": money(amounts.lines[event.line - 1].divided),
        "oid": oid_of(draft.tid, event.line, len(draft.lines)),
        "tid": draft.tid,
        "refund_id": refund_id,
        "seller_nick": happening.seller.nick,
        "modified": time_text(event.at),
        "refund_phase": refund.phase,
        "bill_type": "return_bill" if refund.goods_return else "refund_bill",
    }
    data_id = refund_id if event.kind is EventKind.REFUND_SUCCESS else draft.tid
    return Notice(f"{_REFUND}{_REFUND_EVENTS[event.kind]}", content, str(data_id))
