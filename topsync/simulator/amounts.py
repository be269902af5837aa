"""The sums of an order, in cents; they add up (docs/platform/gateway.md 5.2 and 5.4).

line: total = price x quantity + adjustment - discount;  divided = total - share of the shop's discount
trade: payment = sum of the lines' divided fees + postage
"""

from __future__ import annotations

from typing import NamedTuple

from topsync.simulator.drafts import Draft
from topsync.simulator.life import OrderState


class LineAmounts(NamedTuple):
    """The money of a line."""

    adjustment: int
    total: int
    share: int
    divided: int
    """What the line really costs; a refund of the line gives back the same."""


class Amounts(NamedTuple):
    """The money of a trade."""

    lines: tuple[LineAmounts, ...]
    gross: int
    discount: int
    postage: int
    payment: int
    refunded: int
    """Given back before the trade was finished."""

    @property
    def adjustment(self) -> int:
        """The trade's own adjustment: only trades with a single line show it."""
        return self.lines[0].adjustment if len(self.lines) == 1 else 0


def amounts_of(draft: Draft, state: OrderState) -> Amounts:
    """The sums as they stand in a state."""
    gross = goods = 0
    adjusted: list[tuple[int, int]] = []
    for line, lived in zip(draft.lines, state.lines, strict=True):
        change = -line.fee_change * lived.fee_changes if lived.fee_changes else 0
        total = line.gross - line.discount + change
        adjusted.append((change, total))
        gross += line.gross
        goods += total
    lines: list[LineAmounts] = []
    refunded, left, last = 0, draft.shop_discount, len(adjusted) - 1
    for position, (change, total) in enumerate(adjusted):
        share = left if position == last else draft.shop_discount * total // goods
        left -= share
        lines.append(LineAmounts(change, total, share, total - share))
        if state.lines[position].refunded:
            refunded += total - share
    return Amounts(
        lines=tuple(lines),
        gross=gross,
        discount=draft.shop_discount,
        postage=draft.postage,
        payment=goods - draft.shop_discount + draft.postage,
        refunded=refunded,
    )
