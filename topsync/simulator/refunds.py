"""A refund as the platform writes it, and the list of them (docs/platform/gateway.md 3.10).

A refund is not stored: it follows from an order's events about a line, so it cannot disagree with the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from topsync.simulator.amounts import Amounts, amounts_of
from topsync.simulator.book import OrderBook
from topsync.simulator.drafts import Draft
from topsync.simulator.history import RefundRow
from topsync.simulator.ids import oid_of, refund_id_of
from topsync.simulator.life import LineState, OrderEvent, OrderState, RefundState, TradeType
from topsync.simulator.listing import MAX_SCANNED_ORDERS, TooSlowError
from topsync.simulator.moves import OPEN_REFUNDS
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.trades import CARRIER, ITEM_BASE, SKU_BASE, waybill_of
from topsync.simulator.wire import JsonObject, money, time_text

_DAY_SECONDS = 86400
_REMIND_SECONDS = {"WAIT_SELLER_AGREE": 2 * _DAY_SECONDS, "WAIT_BUYER_RETURN_GOODS": 7 * _DAY_SECONDS}
_RETURNS = (*("REFUND_AND_RETURN",) * 7, "", "REPAIR", "RESHIPPING", "OTHERS")
"""Empty: an exchange, whose name depends on the shop. Their number is a prime: every plan meets each."""
_EVERY_FIFTH = 5
_OTHER_REMIND_SECONDS = 10 * _DAY_SECONDS
"""Seconds after which the platform decides by itself (inferred)."""


@dataclass(frozen=True, slots=True)
class RefundQuery:
    """What a list of refunds asks for; times are seconds since the epoch, both ends included."""

    first: int
    last: int
    types: frozenset[TradeType]
    status: str | None
    oldest_created: int
    """Refunds of orders created before this second are out of reach."""


def between(book: OrderBook, query: RefundQuery, now: int) -> list[RefundRow]:
    """The refunds that lists show with `modified` in the window, newest first.

    Raises:
        TooSlowError: the window holds too many.
    """
    history = book.history
    if history.refund_steps_between(query.first, query.last) > MAX_SCANNED_ORDERS:
        raise TooSlowError
    rows, changed = book.refunds_between(query.first, query.last, now)
    for number in changed:
        rows += of_events(book, number, book.shown(number, now).events, query.first, query.last)
    reachable = history.created_range(0, query.oldest_created - 1).stop
    return sorted(
        (
            row
            for row in rows
            if query.status in (None, row.status)
            and history.plan(row.number).type in query.types
            and row.number >= reachable
        ),
        reverse=True,
    )


def of_events(
    book: OrderBook, number: int, events: Sequence[OrderEvent], first: int, last: int
) -> Iterator[RefundRow]:
    """The refunds that an order has after these events, as far as they were modified in [first, last]."""
    state = book.state(book.draft(number), events)
    for position, line in enumerate(state.lines, 1):
        for refund in line.refunds:
            if first <= refund.modified <= last:
                yield RefundRow(refund.modified, number, position, refund.attempt, refund.status)


def all_of(book: OrderBook, number: int) -> Iterator[JsonObject]:
    """Every refund that an order has had, in full, as it is now."""
    draft = book.draft(number)
    state = book.state(draft, book.events(number))
    for position, line in enumerate(state.lines, 1):
        for refund in line.refunds:
            found = full_refund(book.seller, draft, state, position, refund.attempt)
            if found is not None:
                yield found


def full_refund(
    seller: SimulatedSeller, draft: Draft, state: OrderState, line: int, attempt: int
) -> JsonObject | None:
    """Every field that `taobao.refund.get` gives of a line's refund; None when there is no such refund."""
    if line > len(state.lines) or attempt > len(state.lines[line - 1].refunds):
        return None
    lived = state.lines[line - 1]
    refund = lived.refunds[attempt - 1]
    ordered = draft.lines[line - 1]
    row: JsonObject = {
        "refund_id": str(refund_id_of(draft.tid, line, attempt)),
        "tid": draft.tid,
        "oid": oid_of(draft.tid, line, len(draft.lines)),
        "status": refund.status,
        "order_status": state.line_status(state.status, lived),
        "good_status": _goods(state, lived, refund),
        "has_good_return": refund.goods_return,
        "refund_phase": refund.phase,
        "dispute_type": _dispute_type(seller, refund, draft.tid),
        "refund_version": refund.modified * 1000,
        "created": time_text(refund.created),
        "modified": time_text(refund.modified),
        **_money(amounts_of(draft, state), line),
        "num": ordered.quantity,
        "num_iid": ITEM_BASE + ordered.item,
        "price": money(ordered.price),
        "title": ordered.title,
        "outer_id": f"ITEM-{ordered.item:02d}",
        "reason": "质量问题" if refund.goods_return else "不想要了",
        "desc": "",
        "cs_status": _arbitration(refund, draft.tid),
        "advance_status": 1 if refund.phase == "aftersale" and refund.status == "SUCCESS" else 0,
        "attribute": f";gaia:2;disputeRequest:{'1' if refund.goods_return else '2'};",
        "seller_nick": seller.nick,
        "buyer_nick": draft.buyer_nick,
        "buyer_open_uid": draft.buyer_open_uid,
        "shipping_type": draft.shipping_type,
    }
    if ordered.sku is not None:
        row["sku"] = f"{SKU_BASE + ordered.item * 100 + ordered.sku}|{ordered.sku_text}"
    if refund.status == "WAIT_SELLER_AGREE":
        row["operation_contraint"] = "refund_onweb" if draft.tid % _EVERY_FIFTH else "cannot_refuse"
    if refund.returned_at is not None:
        row["good_return_time"] = time_text(refund.returned_at)
        row["company_name"] = CARRIER
        row["sid"] = f"R{waybill_of(draft.tid, line)}"
    if refund.status in OPEN_REFUNDS:
        row["refund_remind_timeout"] = _reminder(refund)
    return row


def _dispute_type(seller: SimulatedSeller, refund: RefundState, tid: int) -> str:
    """Mostly only money, or money for returned goods; sometimes something quite different."""
    choice = (tid + refund.attempt) % len(_RETURNS)
    if not refund.goods_return:
        return "OTHERS" if choice == 0 else "REFUND"
    exchange = "TMALL_EXCHANGE" if seller.seller_type == "B" else "TAOBAO_EXCHANGE"
    return _RETURNS[choice] or exchange


def _arbitration(refund: RefundState, tid: int) -> int:
    """A refused buyer may ask the platform to decide; we chose the meanings of the numbers 2 to 11."""
    if refund.status != "SELLER_REFUSE_BUYER":
        return 1
    return 2 + (tid + refund.attempt) % 3


def _goods(state: OrderState, line: LineState, refund: RefundState) -> str:
    if refund.returned_at is not None:
        return "BUYER_RETURNED_GOODS"
    received = line.shipped_at is not None and (state.signed_at or state.finished_at) is not None
    return "BUYER_RECEIVED" if received else "BUYER_NOT_RECEIVED"


def _money(amounts: Amounts, line: int) -> JsonObject:
    refunded = amounts.lines[line - 1].divided
    return {
        "total_fee": money(amounts.payment),
        "refund_fee": money(refunded),
        "payment": money(amounts.payment - refunded),
    }


def _reminder(refund: RefundState) -> JsonObject:
    wait = _REMIND_SECONDS.get(refund.status, _OTHER_REMIND_SECONDS)
    return {"exist_timeout": True, "remind_type": 1, "timeout": time_text(refund.modified + wait)}
