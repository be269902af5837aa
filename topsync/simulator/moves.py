"""What can happen to an order next, given its state (docs/platform/gateway.md 5.3, 5.4 and 5.6)."""

from __future__ import annotations

from typing import NamedTuple

from topsync.simulator.ids import MAX_LINES
from topsync.simulator.life import DELIVERED_AT_ONCE, Kind, LineState, OrderState, Refund, TradeType

OPEN_REFUNDS = frozenset(
    {"WAIT_SELLER_AGREE", "WAIT_BUYER_RETURN_GOODS", "WAIT_SELLER_CONFIRM_GOODS", "SELLER_REFUSE_BUYER"}
)

_MAX_FEE_CHANGES = 3
_MAX_EXTENSIONS = 9


class Move(NamedTuple):
    """Something that could happen next."""

    kind: Kind
    line: int = 0


def follow_ups(type_: TradeType, move: Move) -> tuple[Move, ...]:
    """What the platform itself does in the same second as a move."""
    if move.kind is Kind.PAY and type_ in DELIVERED_AT_ONCE:
        return (Move(Kind.SHIP),)
    return ()


def possible(state: OrderState) -> list[Move]:
    """Everything that can happen next; never empty, since a memo can always be written."""
    moves = [Move(Kind.MEMO)]
    if state.closed_unpaid_at is not None:
        return moves
    if not state.payable_done:
        return moves + _before_payment(state)
    if not state.open_lines:
        return moves
    return moves + (_under_way(state) if state.finished_at is None else _after_sale(state)) + _refunds(state)


def _before_payment(state: OrderState) -> list[Move]:
    moves = [Move(Kind.CLOSE_UNPAID)]
    if state.type is TradeType.NOPAID:
        return moves
    if state.type is TradeType.STEP:
        return [*moves, Move(Kind.PAY_DEPOSIT if state.deposit_at is None else Kind.PAY)]
    if state.confirming:
        return [*moves, Move(Kind.PAY)]
    if state.type is TradeType.PRE_AUTH:
        return [*moves, Move(Kind.PRE_AUTH)]
    if state.type is TradeType.FIXED:
        moves.append(Move(Kind.CARD))
    if state.lines[0].fee_changes < _MAX_FEE_CHANGES:
        moves.append(Move(Kind.MODIFY_FEE))
    return [*moves, Move(Kind.PAY)]


def _under_way(state: OrderState) -> list[Move]:
    if state.held:
        return [Move(Kind.RELEASE)]
    moves: list[Move] = []
    waiting = [
        position
        for position, line in enumerate(state.lines, 1)
        if not line.refunded and line.shipped_at is None and not _refunding(line)
    ]
    blocked = any(_refunding(line) for line in state.open_lines)
    unshipped = sum(line.shipped_at is None for line in state.open_lines)
    if waiting:
        moves.append(Move(Kind.ADDRESS))
        if state.type is TradeType.FIXED and unshipped == len(state.open_lines):
            moves.append(Move(Kind.HOLD))
        if len(waiting) == unshipped:
            moves.append(Move(Kind.SHIP))
        if unshipped > 1:
            moves.extend(Move(Kind.SHIP_LINE, position) for position in waiting)
    if not unshipped:
        if state.extensions < _MAX_EXTENSIONS:
            moves.append(Move(Kind.EXTEND))
        if state.type is TradeType.COD and state.signed_at is None:
            moves.append(Move(Kind.SIGN))
        if not blocked:
            moves.append(Move(Kind.FINISH))
    return moves


def _after_sale(state: OrderState) -> list[Move]:
    return [] if state.buyer_rated and state.seller_rated else [Move(Kind.RATE)]


def _refunds(state: OrderState) -> list[Move]:
    if state.type is TradeType.COD and state.finished_at is None:
        return []
    moves: list[Move] = []
    for position, line in enumerate(state.lines, 1):
        refund = line.refund
        if line.refunded or (refund and refund.status == "SUCCESS"):
            continue
        if refund is None or refund.status == "CLOSED":
            if refund is None or refund.attempt < MAX_LINES:
                moves.append(Move(Kind.REFUND_CREATE, position))
            continue
        moves.extend(Move(kind, position) for kind in _refund_moves(refund))
    return moves


def _refund_moves(refund: Refund) -> tuple[Kind, ...]:
    match refund.status:
        case "WAIT_SELLER_AGREE" if refund.goods_return:
            return (Kind.REFUND_AGREE, Kind.REFUND_REFUSE, Kind.REFUND_CLOSE)
        case "WAIT_SELLER_AGREE":
            return (Kind.REFUND_SUCCESS, Kind.REFUND_REFUSE, Kind.REFUND_CLOSE)
        case "WAIT_BUYER_RETURN_GOODS":
            return (Kind.REFUND_RETURN, Kind.REFUND_CLOSE)
        case "WAIT_SELLER_CONFIRM_GOODS":
            return (Kind.REFUND_SUCCESS,)
        case _:
            return (Kind.REFUND_CLOSE,)


def _refunding(line: LineState) -> bool:
    return line.refund is not None and line.refund.status in OPEN_REFUNDS
