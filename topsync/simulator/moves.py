"""What can happen to an order next, given its state (docs/platform/gateway.md 5.3, 5.4 and 5.6)."""

from __future__ import annotations

from typing import NamedTuple

from topsync.simulator.ids import MAX_LINES
from topsync.simulator.life import DELIVERED_AT_ONCE, EventKind, LineState, OrderState, RefundState, TradeType

OPEN_REFUNDS = frozenset(
    {"WAIT_SELLER_AGREE", "WAIT_BUYER_RETURN_GOODS", "WAIT_SELLER_CONFIRM_GOODS", "SELLER_REFUSE_BUYER"}
)

_MAX_FEE_CHANGES = 3
_MAX_EXTENSIONS = 9


class Move(NamedTuple):
    """Something that could happen next."""

    kind: EventKind
    line: int = 0


def follow_ups(type_: TradeType, move: Move) -> tuple[Move, ...]:
    """What the platform itself does in the same second as a move."""
    if move.kind is EventKind.PAY and type_ in DELIVERED_AT_ONCE:
        return (Move(EventKind.SHIP),)
    return ()


def possible(state: OrderState) -> list[Move]:
    """Everything that can happen next; never empty, since a memo can always be written."""
    moves = [Move(EventKind.MEMO)]
    if state.closed_unpaid_at is not None:
        return moves
    if not state.payable_done:
        return moves + _before_payment(state)
    if not state.open_lines:
        return moves
    return moves + (_under_way(state) if state.finished_at is None else _after_sale(state)) + _refunds(state)


def _before_payment(state: OrderState) -> list[Move]:
    moves = [Move(EventKind.CLOSE_UNPAID)]
    if state.type is TradeType.NOPAID:
        return moves
    if state.type is TradeType.STEP:
        return [*moves, Move(EventKind.PAY_DEPOSIT if state.deposit_at is None else EventKind.PAY)]
    if state.confirming:
        return [*moves, Move(EventKind.PAY)]
    if state.type is TradeType.PRE_AUTH:
        return [*moves, Move(EventKind.PRE_AUTH)]
    if state.type is TradeType.FIXED:
        moves.append(Move(EventKind.CARD))
    if state.lines[0].fee_changes < _MAX_FEE_CHANGES:
        moves.append(Move(EventKind.MODIFY_FEE))
    return [*moves, Move(EventKind.PAY)]


def _under_way(state: OrderState) -> list[Move]:
    if state.held:
        return [Move(EventKind.RELEASE)]
    moves: list[Move] = []
    waiting = [
        position
        for position, line in enumerate(state.lines, 1)
        if not line.refunded and line.shipped_at is None and not _refunding(line)
    ]
    blocked = any(_refunding(line) for line in state.open_lines)
    unshipped = sum(line.shipped_at is None for line in state.open_lines)
    if waiting:
        moves.append(Move(EventKind.ADDRESS))
        if state.type is TradeType.FIXED and unshipped == len(state.open_lines):
            moves.append(Move(EventKind.HOLD))
        if len(waiting) == unshipped:
            moves.append(Move(EventKind.SHIP))
        if unshipped > 1:
            moves.extend(Move(EventKind.SHIP_LINE, position) for position in waiting)
    if not unshipped:
        if state.extensions < _MAX_EXTENSIONS:
            moves.append(Move(EventKind.EXTEND))
        if state.type is TradeType.COD and state.signed_at is None:
            moves.append(Move(EventKind.SIGN))
        if not blocked:
            moves.append(Move(EventKind.FINISH))
    return moves


def _after_sale(state: OrderState) -> list[Move]:
    return [] if state.buyer_rated and state.seller_rated else [Move(EventKind.RATE)]


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
                moves.append(Move(EventKind.REFUND_CREATE, position))
            continue
        moves.extend(Move(kind, position) for kind in _refund_moves(refund))
    return moves


def _refund_moves(refund: RefundState) -> tuple[EventKind, ...]:
    match refund.status:
        case "WAIT_SELLER_AGREE" if refund.goods_return:
            return (EventKind.REFUND_AGREE, EventKind.REFUND_REFUSE, EventKind.REFUND_CLOSE)
        case "WAIT_SELLER_AGREE":
            return (EventKind.REFUND_SUCCESS, EventKind.REFUND_REFUSE, EventKind.REFUND_CLOSE)
        case "WAIT_BUYER_RETURN_GOODS":
            return (EventKind.REFUND_RETURN, EventKind.REFUND_CLOSE)
        case "WAIT_SELLER_CONFIRM_GOODS":
            return (EventKind.REFUND_SUCCESS,)
        case _:
            return (EventKind.REFUND_CLOSE,)


def _refunding(line: LineState) -> bool:
    return line.refund is not None and line.refund.status in OPEN_REFUNDS
