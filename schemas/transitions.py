"""What has happened to an order between two of its states, as subscribers want to be told it.

Platform states may be skipped: what was missed, or happened within one second, shows as one step. So a
transition is not read off a pair of statuses. Each state implies how far the order has come, its
*milestones* (reference/top-api.md 5.3 and 5.6), and a step's transitions are those it newly implies.
A step back implies none, and is an update. Every pair of states has an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from schemas.change import Source
from schemas.trade import OrderLine, Trade


class Transition(StrEnum):
    """What others act on; in the order in which an order's life brings it."""

    CREATED = "created"
    DEPOSIT_PAID = "deposit-paid"
    """Of a presale: the stock is to be kept, and nothing to be shipped."""
    PAID = "paid"
    """The order is the seller's to fulfil: paid in full, or cash on delivery."""
    REST_PAID = "rest-paid"
    """Of a presale; comes together with `paid`."""
    SHIPPED = "shipped"
    """Everything that is to be shipped."""
    PARTLY_REFUNDED = "partly-refunded"
    """The money of one more line went back, and the order is not closed by it; may happen again."""
    FINISHED = "finished"
    CLOSED = "closed"
    UPDATED = "updated"
    """Anything else."""
    CORRECTED = "corrected"
    """Found by reconciliation, not told by push: there may have been a gap. Comes with what it found."""


_RANK = {transition: rank for rank, transition in enumerate(Transition)}

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

_RECONCILED = frozenset({Source.GAP, Source.OPERATOR, Source.SWEEP})
"""Sources that find what push should have told; the bulk start finds what is new to us alone."""


@dataclass(frozen=True, slots=True)
class Step:
    """One version of an order beside the version before."""

    transitions: tuple[Transition, ...]
    """At least one; in the order of `Transition`, each once."""
    status_from: str | None
    """None: there was no version before."""
    changed: tuple[str, ...]
    """Names of the fields that differ, sorted, those of lines as `orders.<name>`; never `modified`, which
    always does. Empty where there was no version before: all of it is new.
    """

    @property
    def main(self) -> Transition:
        """The one that names the event: how far the order has come by this step."""
        found = [one for one in self.transitions if one is not Transition.CORRECTED]
        return found[-1] if found else Transition.CORRECTED


def step(before: Trade | None, after: Trade, source: Source) -> Step:
    """What has happened between two versions of an order that reached us by `source`."""
    happened = _milestones(after) - (_milestones(before) if before else set())
    if _refunded(after) - (_refunded(before) if before else set()) and after.status not in _CLOSED:
        happened.add(Transition.PARTLY_REFUNDED)
    return Step(
        transitions=_told(happened, corrected=source in _RECONCILED),
        status_from=before.status if before else None,
        changed=tuple(sorted(_differing(before, after))) if before else (),
    )


def join(first: Step, second: Step) -> Step:
    """Two steps in a row as one: for a version that was never published."""
    happened = {*first.transitions, *second.transitions}
    corrected = Transition.CORRECTED in happened
    return Step(
        transitions=_told(happened - {Transition.UPDATED, Transition.CORRECTED}, corrected=corrected),
        status_from=first.status_from,
        changed=tuple(sorted({*first.changed, *second.changed})) if first.status_from is not None else (),
    )


def _told(happened: set[Transition], *, corrected: bool) -> tuple[Transition, ...]:
    told = set(happened)
    if corrected:
        told.add(Transition.CORRECTED)
    return tuple(sorted(told or {Transition.UPDATED}, key=_RANK.__getitem__))


def _milestones(trade: Trade) -> set[Transition]:
    reached = {Transition.CREATED}
    if trade.step_trade_status in _DEPOSIT_PAID:
        reached.add(Transition.DEPOSIT_PAID)
    if trade.step_trade_status == _REST_PAID:
        reached.add(Transition.REST_PAID)
    if trade.status in _PAID or _was_paid(trade):
        reached.add(Transition.PAID)
    if trade.status in _SHIPPED:
        reached.add(Transition.SHIPPED)
    if trade.status == "TRADE_FINISHED":
        reached.add(Transition.FINISHED)
    if trade.status in _CLOSED:
        reached.add(Transition.CLOSED)
    return reached


def _was_paid(closed: Trade) -> bool:
    """Whether an order that is closed was paid in full before.

    Of an open order `pay_time` proves nothing: nobody documents that a deposit leaves it empty.
    """
    return (
        closed.status in _CLOSED
        and closed.pay_time is not None
        and closed.step_trade_status in (None, _REST_PAID)
    )


def _refunded(trade: Trade) -> set[int]:
    return {line.oid for line in trade.orders if line.refund_status == "SUCCESS"}


def _differing(before: Trade, after: Trade) -> Iterator[str]:
    for name in Trade.model_fields:
        if name == "orders":
            yield from _differing_lines(before.orders, after.orders)
        elif name != "modified" and getattr(before, name) != getattr(after, name):
            yield name


def _differing_lines(before: Iterable[OrderLine], after: Iterable[OrderLine]) -> set[str]:
    """The fields in which any line differs; `orders` where lines came or went."""
    old, new = {line.oid: line for line in before}, {line.oid: line for line in after}
    differing = {"orders"} if old.keys() != new.keys() else set()
    for oid in old.keys() & new.keys():
        differing |= {
            f"orders.{name}"
            for name in OrderLine.model_fields
            if getattr(old[oid], name) != getattr(new[oid], name)
        }
    return differing
