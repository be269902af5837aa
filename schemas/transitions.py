"""What has happened to an order between two of its states, as subscribers want to be told it.

Platform states may be skipped: what was missed, or happened within one second, shows as one step. So a
transition is not read off a pair of statuses. Each state implies how far the order has come, its
*milestones* (docs/platform/gateway.md 5.3 and 5.6), and a step's transitions are those it newly implies.
A step back implies none, and is an update. Every pair of states has an answer.

Orders are taken as they are on the wire, JSON read into dictionaries: what is stored need not be made into
a `Trade` again, which would cost the writer as much as reading the platform's answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from schemas import delta
from schemas.change import Source
from schemas.delta import Delta

Order = Mapping[str, Any]
"""`Trade.to_wire()`, read: what is absent is not there."""


class Transition(StrEnum):
    """What others act on, in the order of an order's life; `schemas.events` says what each means."""

    CREATED = "created"
    DEPOSIT_PAID = "deposit-paid"
    PAID = "paid"
    REST_PAID = "rest-paid"
    SHIPPED = "shipped"
    PARTLY_REFUNDED = "partly-refunded"
    FINISHED = "finished"
    CLOSED = "closed"
    UPDATED = "updated"
    CORRECTED = "corrected"


_PAID = frozenset(
    {
        "PAID_FORBID_CONSIGN",
        "WAIT_SELLER_SEND_GOODS",
        "SELLER_CONSIGNED_PART",
        "WAIT_BUYER_CONFIRM_GOODS",
        "TRADE_BUYER_SIGNED",
        "TRADE_FINISHED",
    }
)
_SHIPPED = frozenset({"WAIT_BUYER_CONFIRM_GOODS", "TRADE_BUYER_SIGNED", "TRADE_FINISHED"})
_CLOSED = frozenset({"TRADE_CLOSED", "TRADE_CLOSED_BY_TAOBAO"})
_DEPOSIT_PAID = frozenset({"FRONT_PAID_FINAL_NOPAID", "FRONT_PAID_FINAL_PAID", "FRONT_PAID_FRONT_FORFEITED"})
_REST_PAID = "FRONT_PAID_FINAL_PAID"


def step(before: Order | None, after: Order, source: Source) -> Delta[Transition]:
    """What has happened between two versions of an order, the later of which reached us by `source`."""
    happened = _milestones(after) - (_milestones(before) if before else set())
    if _refunded(after) - (_refunded(before) if before else set()) and after["status"] not in _CLOSED:
        happened.add(Transition.PARTLY_REFUNDED)
    return Delta(
        transitions=delta.told(Transition, happened, source),
        status_from=before["status"] if before else None,
        changed=tuple(sorted(_differing(before, after))) if before else (),
    )


def _milestones(order: Order) -> set[Transition]:
    status, presale = order["status"], order.get("step_trade_status")
    reached = {Transition.CREATED}
    if presale in _DEPOSIT_PAID:
        reached.add(Transition.DEPOSIT_PAID)
    if presale == _REST_PAID:
        reached.add(Transition.REST_PAID)
    if status in _PAID or _was_paid(order):
        reached.add(Transition.PAID)
    if status in _SHIPPED:
        reached.add(Transition.SHIPPED)
    if status == "TRADE_FINISHED":
        reached.add(Transition.FINISHED)
    if status in _CLOSED:
        reached.add(Transition.CLOSED)
    return reached


def _was_paid(order: Order) -> bool:
    """Whether an order that is closed was paid in full before.

    Of an open order `pay_time` proves nothing: nobody documents that a deposit leaves it empty.
    """
    return (
        order["status"] in _CLOSED
        and "pay_time" in order
        and order.get("step_trade_status") in (None, _REST_PAID)
    )


def _refunded(order: Order) -> set[str]:
    return {line["oid"] for line in order["orders"] if line.get("refund_status") == "SUCCESS"}


def _differing(before: Order, after: Order) -> set[str]:
    differing = delta.differing(before, after)
    differing.discard("modified")
    if "orders" in differing:
        differing.remove("orders")
        differing |= _differing_lines(before["orders"], after["orders"])
    return differing


def _differing_lines(before: Iterable[Order], after: Iterable[Order]) -> set[str]:
    """The fields in which any line differs; `orders` where lines came or went."""
    old, new = {line["oid"]: line for line in before}, {line["oid"]: line for line in after}
    differing = {"orders"} if old.keys() != new.keys() else set()
    for oid in old.keys() & new.keys():
        differing |= {f"orders.{name}" for name in delta.differing(old[oid], new[oid])}
    return differing
