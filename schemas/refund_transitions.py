"""What has happened to a refund between two of its states, as subscribers want to be told it.

As with orders (`schemas.transitions`) states may be skipped, so each state implies how far the refund has
come, and a step's transitions are what it newly implies. Unlike an order, a refund goes back: a buyer who is
refused asks again, and the seller may refuse again. Then both are told again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from schemas import delta
from schemas.change import Source
from schemas.delta import Delta

Refund = Mapping[str, Any]
"""`Refund.to_wire()`, read: what is absent is not there."""


class RefundTransition(StrEnum):
    """What others act on, in the order of a refund's life; `schemas.events` says what each means."""

    CREATED = "created"
    REFUSED = "refused"
    AGREED = "agreed"
    GOODS_RETURNED = "goods-returned"
    SUCCEEDED = "succeeded"
    CLOSED = "closed"
    UPDATED = "updated"
    CORRECTED = "corrected"


_OF_STATUS: Mapping[str, RefundTransition] = {
    "SELLER_REFUSE_BUYER": RefundTransition.REFUSED,
    "WAIT_BUYER_RETURN_GOODS": RefundTransition.AGREED,
    "WAIT_SELLER_CONFIRM_GOODS": RefundTransition.GOODS_RETURNED,
    "SUCCESS": RefundTransition.SUCCEEDED,
    "CLOSED": RefundTransition.CLOSED,
}
"""What a status says by itself (docs/platform/gateway.md 5.4); another one, e.g. of an exchange, says
nothing.
"""


def step(before: Refund | None, after: Refund, source: Source) -> Delta[RefundTransition]:
    """What has happened between two versions of a refund, the later of which reached us by `source`."""
    happened = _milestones(after) - (_milestones(before) if before else set())
    return Delta(
        transitions=delta.told(RefundTransition, happened, source),
        status_from=before["status"] if before else None,
        changed=tuple(sorted(delta.differing(before, after) - _ALWAYS_DIFFERENT)) if before else (),
    )


def _milestones(refund: Refund) -> set[RefundTransition]:
    reached = {RefundTransition.CREATED}
    if own := _OF_STATUS.get(refund["status"]):
        reached.add(own)
    if "good_return_time" in refund:
        reached.add(RefundTransition.GOODS_RETURNED)
    if RefundTransition.GOODS_RETURNED in reached:
        # Goods only travel after the seller has agreed to have them back.
        reached.add(RefundTransition.AGREED)
    return reached


_ALWAYS_DIFFERENT = frozenset({"modified", "refund_version"})
