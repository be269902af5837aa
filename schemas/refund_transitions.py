"""What has happened to a refund between two of its states: the words, each declared once.

As with orders (`schemas.transitions`) most words are milestones. Unlike an order, a refund goes back: a buyer
who is refused asks again, and the seller may refuse again. Then both are reported again. What a status says
by itself is in docs/platform/gateway.md 5.4; another status, e.g. of an exchange, says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from schemas import delta
from schemas.change import Source
from schemas.delta import Declaration, Delta, TransitionWord, WireState, newly


def _has(status: str) -> Callable[[WireState], bool]:
    return lambda refund: refund["status"] == status


def _is_returned(refund: WireState) -> bool:
    return refund["status"] == "WAIT_SELLER_CONFIRM_GOODS" or "good_return_time" in refund


def _is_agreed(refund: WireState) -> bool:
    """Goods are only sent after the seller has agreed to take them back."""
    return refund["status"] == "WAIT_BUYER_RETURN_GOODS" or _is_returned(refund)


_KEPT: Final = {
    "good_status": "BUYER_RECEIVED",
    "good_return_time": None,
    "company_name": None,
    "sid": None,
    "refund_remind_timeout": {"timeout": "2026-11-28T09:44:05Z"},
}
"""The sample without what came with the return of the goods."""
_ASKED: Final = {**_KEPT, "status": "WAIT_SELLER_AGREE"}
_CHEAPER: Final = {**_ASKED, "refund_fee": "70.00"}
_TO_RETURN: Final = {**_KEPT, "status": "WAIT_BUYER_RETURN_GOODS"}


class RefundTransition(TransitionWord):
    """What others act on. `updated` and `corrected` are for what no other word says (`schemas.delta`)."""

    UPDATED = delta.updated(
        "Anything else: an amount, a comment, a waybill, an exchange.", before=_ASKED, after=_CHEAPER
    )
    CREATED = Declaration(
        "created",
        rank=10,
        about="A refund that was not there before: the buyer asks for money.",
        shown=lambda before, _: before is None,
        after=_ASKED,
    )
    REFUSED = Declaration(
        "refused",
        rank=20,
        about="The seller refused. The buyer may ask again, and be refused again.",
        shown=newly(_has("SELLER_REFUSE_BUYER")),
        before=_ASKED,
        after={**_KEPT, "status": "SELLER_REFUSE_BUYER"},
    )
    AGREED = Declaration(
        "agreed",
        rank=30,
        about="The seller agreed to take the goods back; the buyer is to send them.",
        shown=newly(_is_agreed),
        before=_ASKED,
        after=_TO_RETURN,
    )
    GOODS_RETURNED = Declaration(
        "goods-returned",
        rank=40,
        about="The buyer sent the goods back: expect them at the warehouse.",
        shown=newly(_is_returned),
        before=_TO_RETURN,
    )
    SUCCEEDED = Declaration(
        "succeeded",
        rank=50,
        about="The money went back.",
        shown=newly(_has("SUCCESS")),
        before={},
        after={"status": "SUCCESS", "refund_remind_timeout": None},
    )
    CLOSED = Declaration(
        "closed",
        rank=60,
        about="It ended without money.",
        shown=newly(_has("CLOSED")),
        before=_ASKED,
        after={**_KEPT, "status": "CLOSED", "refund_remind_timeout": None},
    )
    CORRECTED = delta.corrected(rank=80, before=_ASKED, after=_CHEAPER)


def step(before: WireState | None, after: WireState, source: Source) -> Delta[RefundTransition]:
    """What has happened between two versions of a refund, the later of which reached us by `source`."""
    return delta.step(RefundTransition, before, after, source, always=_ALWAYS)


_ALWAYS: Final = frozenset({"modified", "refund_version"})
