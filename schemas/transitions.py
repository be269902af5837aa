"""What has happened to an order between two of its states: the words, each declared once.

How a step is read off two states, and why most words are milestones, is in `schemas.delta`; the statuses are
in docs/platform/gateway.md 5.3 and 5.6. How to add a word: docs/how-to/add-an-event.md.
"""

from __future__ import annotations

from typing import Any, Final

from schemas import delta
from schemas.change import Source
from schemas.delta import Declaration, Delta, TransitionWord, newly
from schemas.trade import PLACE_FIELDS

Order = delta.WireState
"""`Trade.to_wire()`, read: what is absent is not there."""

_PAID: Final = frozenset(
    {
        "PAID_FORBID_CONSIGN",
        "WAIT_SELLER_SEND_GOODS",
        "SELLER_CONSIGNED_PART",
        "WAIT_BUYER_CONFIRM_GOODS",
        "TRADE_BUYER_SIGNED",
        "TRADE_FINISHED",
    }
)
_SHIPPED: Final = frozenset({"WAIT_BUYER_CONFIRM_GOODS", "TRADE_BUYER_SIGNED", "TRADE_FINISHED"})
_CLOSED: Final = frozenset({"TRADE_CLOSED", "TRADE_CLOSED_BY_TAOBAO"})
_DEPOSIT_PAID: Final = frozenset(
    {"FRONT_PAID_FINAL_NOPAID", "FRONT_PAID_FINAL_PAID", "FRONT_PAID_FRONT_FORFEITED"}
)
_REST_PAID: Final = "FRONT_PAID_FINAL_PAID"


def _is_paid(order: Order) -> bool:
    """Paid in full, or cash on delivery; of a closed order: whether it was paid in full before.

    Of an open order `pay_time` proves nothing: nobody documents that a deposit leaves it empty.
    """
    return order["status"] in _PAID or (
        _is_closed(order) and "pay_time" in order and order.get("step_trade_status") in (None, _REST_PAID)
    )


def _is_shipped(order: Order) -> bool:
    return order["status"] in _SHIPPED


def _is_closed(order: Order) -> bool:
    return order["status"] in _CLOSED


def _is_partly_refunded(before: Order | None, after: Order) -> bool:
    """The money of a line went back; a refund that closes the order counts only as its end."""
    return not _is_closed(after) and bool(_refunded(after) - (_refunded(before) if before else set()))


def _refunded(order: Order) -> set[str]:
    return {line["oid"] for line in order["orders"] if line.get("refund_status") == "SUCCESS"}


def _is_sent_elsewhere(before: Order | None, after: Order) -> bool:
    """The parcel goes elsewhere: of an order that was not shipped, and is not closed.

    Shown by the place, which is not masked, or by the platform's marks for a changed address. Names, phones,
    streets, the postal code and `oaid` show nothing: they change by masking alone. A part of the place that
    comes or goes shows nothing either: the platform leaves fields out at times (docs/platform/gateway.md 5.2,
    5.7 and 6.3). Why messages are not used: docs/decisions/two-states-show-an-event.md.
    """
    if before is None or _is_shipped(before) or _is_closed(after):
        return False
    return _is_elsewhere(before, after) or _is_marked_anew(before, after)


def _is_elsewhere(before: Order, after: Order) -> bool:
    return any((was := before.get(name)) and (now := after.get(name)) and was != now for name in PLACE_FIELDS)


def _is_marked_anew(before: Order, after: Order) -> bool:
    marks = _address_marks(after)
    return bool(marks) and not marks <= _address_marks(before)


def _address_marks(order: Order) -> set[tuple[str, str]]:
    """What the platform marks an order (`lm`) and its lines (`modify_address`) with, by what is marked."""
    marks = {("order", str(mark)) for mark in [_carried(order, "lm")] if mark}
    for line in order["orders"]:
        if mark := _carried(line, "modify_address"):
            marks.add((line["oid"], str(mark)))
    return marks


def _carried(thing: Order, name: str) -> object:
    return thing["platform_fields"].get(name) if "platform_fields" in thing else None


_LINES_UNPAID: Final = [{"status": "WAIT_BUYER_PAY"}] * 2
_UNPAID: Final[dict[str, Any]] = {"status": "WAIT_BUYER_PAY", "pay_time": None, "orders": _LINES_UNPAID}
_PRESALE: Final = {**_UNPAID, "type": "step", "step_trade_status": "FRONT_NOPAID_FINAL_NOPAID"}
_SENT: Final = {
    "status": "WAIT_BUYER_CONFIRM_GOODS",
    "consign_time": "2026-11-20T09:30:00Z",
    "orders": [{"status": "WAIT_BUYER_CONFIRM_GOODS"}] * 2,
}


class Transition(TransitionWord):
    """What others act on. `updated` and `corrected` are for what no other word says (`schemas.delta`)."""

    UPDATED = delta.updated("Anything else.", before={}, after={"seller_memo": "备注"})
    ADDRESS_CHANGED = Declaration(
        "address-changed",
        rank=5,
        about="The order goes elsewhere, and was not shipped as a whole before: print its label anew.",
        shown=_is_sent_elsewhere,
        before={},
        after={
            "receiver_city": "宁波市",
            "receiver_district": "海曙区",
            "oaid": "1exampleaddressee0000000002",
        },
    )
    CREATED = Declaration(
        "created",
        rank=10,
        about="An order that was not there before.",
        shown=lambda before, _: before is None,
        after=_UNPAID,
    )
    DEPOSIT_PAID = Declaration(
        "deposit-paid",
        rank=20,
        about="The deposit of a presale is paid: keep the stock, ship nothing.",
        shown=newly(lambda order: order.get("step_trade_status") in _DEPOSIT_PAID),
        before=_PRESALE,
        after={**_PRESALE, "step_trade_status": "FRONT_PAID_FINAL_NOPAID", "step_paid_fee": "30.00"},
    )
    PAID = Declaration(
        "paid",
        rank=30,
        about="The order is the seller's to fulfil: paid in full, or cash on delivery.",
        shown=newly(_is_paid),
        before=_UNPAID,
    )
    REST_PAID = Declaration(
        "rest-paid",
        rank=40,
        about="The rest of a presale is paid; `paid` comes with it.",
        shown=newly(lambda order: order.get("step_trade_status") == _REST_PAID),
        before={**_PRESALE, "step_trade_status": "FRONT_PAID_FINAL_NOPAID", "step_paid_fee": "30.00"},
        after={"type": "step", "step_trade_status": "FRONT_PAID_FINAL_PAID", "step_paid_fee": "186.00"},
    )
    SHIPPED = Declaration(
        "shipped",
        rank=50,
        about="Everything that is to be shipped has been.",
        shown=newly(_is_shipped),
        before={},
        after=_SENT,
    )
    PARTLY_REFUNDED = Declaration(
        "partly-refunded",
        rank=60,
        about="The money of one more line went back, and the order is not closed by it.",
        shown=_is_partly_refunded,
        before={"orders": [{}, {"refund_status": "WAIT_SELLER_AGREE", "refund_id": "180000000000000101"}]},
        after={
            "orders": [
                {},
                {"status": "TRADE_CLOSED", "refund_status": "SUCCESS", "refund_id": "180000000000000101"},
            ]
        },
    )
    FINISHED = Declaration(
        "finished",
        rank=70,
        about="The order is finished. It may still change, e.g. by a refund after the sale.",
        shown=newly(lambda order: order["status"] == "TRADE_FINISHED"),
        before=_SENT,
        after={**_SENT, "status": "TRADE_FINISHED", "orders": [{"status": "TRADE_FINISHED"}] * 2},
    )
    CLOSED = Declaration(
        "closed",
        rank=80,
        about="The order is closed: never paid, or refunded as a whole.",
        shown=newly(_is_closed),
        before=_UNPAID,
        after={
            "status": "TRADE_CLOSED_BY_TAOBAO",
            "pay_time": None,
            "orders": [{"status": "TRADE_CLOSED_BY_TAOBAO"}] * 2,
        },
    )
    CORRECTED = delta.corrected(rank=100, before={}, after={"seller_memo": "备注"})


def step(before: Order | None, after: Order, source: Source) -> Delta[Transition]:
    """What has happened between two versions of an order, the later of which reached us by `source`."""
    return delta.step(Transition, before, after, source, always=_ALWAYS, rows=_ROWS)


_ALWAYS: Final = frozenset({"modified"})
_ROWS: Final = {"orders": "oid"}
