"""The sums of an order, in cents; they add up (reference/top-api.md 5.2 and 5.4).

line: total = price x quantity + adjustment - discount;  divided = total - share of the shop's discount
trade: payment = sum of the lines' divided fees + postage
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from topsync.simulator.drafts import Draft
from topsync.simulator.life import OrderState


@dataclass(frozen=True)
class LineAmounts:
    """The money of one line."""

    adjustment: int
    total: int
    share: int
    divided: int
    """What the line really costs; also what a refund of it gives back."""


@dataclass(frozen=True)
class Amounts:
    """The money of one trade."""

    lines: tuple[LineAmounts, ...]
    gross: int
    discount: int
    postage: int
    payment: int
    refunded: int
    """Given back before the trade was finished."""

    @cached_property
    def adjustment(self) -> int:
        """The trade's own adjustment: only told for single-line trades."""
        return self.lines[0].adjustment if len(self.lines) == 1 else 0


def amounts_of(draft: Draft, state: OrderState) -> Amounts:
    """The sums as they stand in a state."""
    adjustments = [
        -line.fee_change * lived.fee_changes for line, lived in zip(draft.lines, state.lines, strict=True)
    ]
    totals = [
        line.gross - line.discount + change for line, change in zip(draft.lines, adjustments, strict=True)
    ]
    goods = sum(totals)
    shares = [draft.shop_discount * total // goods for total in totals[:-1]]
    shares.append(draft.shop_discount - sum(shares))
    lines = tuple(
        LineAmounts(change, total, share, total - share)
        for change, total, share in zip(adjustments, totals, shares, strict=True)
    )
    return Amounts(
        lines=lines,
        gross=sum(line.gross for line in draft.lines),
        discount=draft.shop_discount,
        postage=draft.postage,
        payment=goods - draft.shop_discount + draft.postage,
        refunded=sum(line.divided for line, lived in zip(lines, state.lines, strict=True) if lived.refunded),
    )
