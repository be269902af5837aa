"""The life of an order: its events, and the state that they lead to.

A state is never stored. It is the fold of an order's events, so the base history (a pure function), live
changes and the export all agree by construction. Statuses and their meanings: docs/platform/gateway.md 5.3,
5.4 and 5.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class EventKind(StrEnum):
    """What can happen. An event about a single line has the line's position (from 1)."""

    __hash__ = str.__hash__  # an enumeration's own is slow, and each event of each order needs it

    CREATE = "create"
    MODIFY_FEE = "modify_fee"
    CARD = "card"
    """Paid by a foreign card; the payment is being confirmed."""
    PRE_AUTH = "pre_auth"
    """A contract without payment; it is being confirmed."""
    PAY = "pay"
    PAY_DEPOSIT = "pay_deposit"
    CLOSE_UNPAID = "close_unpaid"
    HOLD = "hold"
    """Paid, but not to be shipped yet: a group is not complete, or the platform checks the order."""
    RELEASE = "release"
    SHIP = "ship"
    SHIP_LINE = "ship_line"
    EXTEND = "extend"
    SIGN = "sign"
    FINISH = "finish"
    RATE = "rate"
    MEMO = "memo"
    ADDRESS = "address"
    REFUND_CREATE = "refund_create"
    REFUND_AGREE = "refund_agree"
    REFUND_REFUSE = "refund_refuse"
    REFUND_RETURN = "refund_return"
    REFUND_CLOSE = "refund_close"
    REFUND_SUCCESS = "refund_success"


class TradeType(StrEnum):
    """The types of this world's orders (docs/platform/gateway.md 5.5)."""

    __hash__ = str.__hash__

    FIXED = "fixed"
    STEP = "step"
    COD = "cod"
    AUTO_DELIVERY = "auto_delivery"
    NOPAID = "nopaid"
    ETICKET = "eticket"
    PRE_AUTH = "pre_auth_type"


REFUND_KINDS = frozenset(
    {
        *(EventKind.REFUND_CREATE, EventKind.REFUND_AGREE, EventKind.REFUND_REFUSE),
        *(EventKind.REFUND_RETURN, EventKind.REFUND_CLOSE, EventKind.REFUND_SUCCESS),
    }
)
"""Events that move a refund's `modified`, and mostly the order's too (see `PlatformQuirks`)."""

DELIVERED_AT_ONCE = frozenset({TradeType.AUTO_DELIVERY, TradeType.ETICKET})
"""Goods without a parcel: they are shipped in the second in which they are paid."""


class OrderEvent(NamedTuple):
    """Something that happened to an order."""

    at: int
    """Seconds since the epoch."""
    kind: EventKind
    line: int = 0
    """Position of the line it concerns, from 1; 0 for the whole trade."""
    moves_order: bool = True
    """Whether the order's `modified` moves with it."""


@dataclass(slots=True)
class RefundState:
    """A refund of a line; a line has one at a time."""

    status: str
    attempt: int
    """Which of the line's refunds it is, from 1."""
    phase: str
    goods_return: bool
    created: int
    modified: int
    returned_at: int | None = None
    """When the buyer sent the goods back."""


@dataclass(slots=True)
class LineState:
    """What has happened to one line."""

    shipped_at: int | None = None
    ended_at: int | None = None
    refunded: bool = False
    """Its money was given back before the trade was finished: the line is closed."""
    refunds: tuple[RefundState, ...] = ()
    fee_changes: int = 0

    @property
    def refund(self) -> RefundState | None:
        """The latest refund."""
        return self.refunds[-1] if self.refunds else None


@dataclass(slots=True)
class OrderState:
    """What has happened to an order, up to its last event."""

    type: TradeType
    created: int
    modified: int
    lines: list[LineState]
    paid_at: int | None = None
    deposit_at: int | None = None
    closed_unpaid_at: int | None = None
    signed_at: int | None = None
    finished_at: int | None = None
    ended_at: int | None = None
    memos: int = 0
    extensions: int = 0
    addresses: int = 0
    confirming: str = ""
    """The status while a payment is being confirmed."""
    held: bool = False
    buyer_rated: bool = False
    seller_rated: bool = False

    @property
    def open_lines(self) -> list[LineState]:
        """The lines whose money was not given back."""
        return [line for line in self.lines if not line.refunded]

    @property
    def payable_done(self) -> bool:
        """Whether it may be shipped: paid, or cash on delivery."""
        return self.paid_at is not None or self.type is TradeType.COD

    @property
    def status(self) -> str:
        """The trade's status."""
        if self.closed_unpaid_at is not None:
            return "TRADE_CLOSED_BY_TAOBAO" if self.deposit_at is None else "TRADE_CLOSED"
        if not self.payable_done:
            if self.confirming:
                return self.confirming
            return "TRADE_NO_CREATE_PAY" if self.type is TradeType.NOPAID else "WAIT_BUYER_PAY"
        lines = self.open_lines
        if not lines:
            return "TRADE_CLOSED"
        if self.finished_at is not None:
            return "TRADE_FINISHED"
        if self.held:
            return "PAID_FORBID_CONSIGN"
        shipped = [line for line in lines if line.shipped_at is not None]
        if len(shipped) == len(lines):
            return "TRADE_BUYER_SIGNED" if self.signed_at is not None else "WAIT_BUYER_CONFIRM_GOODS"
        return "SELLER_CONSIGNED_PART" if shipped else "WAIT_SELLER_SEND_GOODS"

    @staticmethod
    def line_status(status: str, line: LineState) -> str:
        """The status of a line in a trade with this status; a line has no statuses for parts and holds."""
        if line.refunded:
            return "TRADE_CLOSED"
        if status == "PAID_FORBID_CONSIGN":
            return "WAIT_SELLER_SEND_GOODS"
        if status == "SELLER_CONSIGNED_PART":
            return "WAIT_SELLER_SEND_GOODS" if line.shipped_at is None else "WAIT_BUYER_CONFIRM_GOODS"
        return status

    @property
    def step_status(self) -> str:
        """The presale status of a `step` trade."""
        if self.paid_at is not None:
            return "FRONT_PAID_FINAL_PAID"
        if self.deposit_at is None:
            return "FRONT_NOPAID_FINAL_NOPAID"
        return "FRONT_PAID_FINAL_NOPAID" if self.closed_unpaid_at is None else "FRONT_PAID_FRONT_FORFEITED"


def modified_by(events: Sequence[OrderEvent]) -> int:
    """The second of the last event that moved the order's `modified`."""
    return next(event.at for event in reversed(events) if event.moves_order)


def fold(type_: TradeType, lines: int, events: Iterable[OrderEvent]) -> OrderState:
    """The state after these events; they begin with the creation and are in order of time."""
    iterator = iter(events)
    created = next(iterator).at
    state = OrderState(type_, created, created, [LineState() for _ in range(lines)])
    for event in iterator:
        _APPLY[event.kind](state, event)
        if event.moves_order:
            state.modified = event.at
    return state


def _modify_fee(state: OrderState, _: OrderEvent) -> None:
    state.lines[0].fee_changes += 1


def _card(state: OrderState, _: OrderEvent) -> None:
    state.confirming = "PAY_PENDING"


def _pre_auth(state: OrderState, _: OrderEvent) -> None:
    state.confirming = "WAIT_PRE_AUTH_CONFIRM"


def _hold(state: OrderState, _: OrderEvent) -> None:
    state.held = True


def _release(state: OrderState, _: OrderEvent) -> None:
    state.held = False


def _pay(state: OrderState, event: OrderEvent) -> None:
    state.paid_at = event.at


def _pay_deposit(state: OrderState, event: OrderEvent) -> None:
    state.deposit_at = event.at


def _close_unpaid(state: OrderState, event: OrderEvent) -> None:
    state.closed_unpaid_at = state.ended_at = event.at
    for line in state.lines:
        line.ended_at = event.at


def _ship(state: OrderState, event: OrderEvent) -> None:
    for line in state.open_lines:
        if line.shipped_at is None:
            line.shipped_at = event.at


def _ship_line(state: OrderState, event: OrderEvent) -> None:
    state.lines[event.line - 1].shipped_at = event.at


def _extend(state: OrderState, _: OrderEvent) -> None:
    state.extensions += 1


def _sign(state: OrderState, event: OrderEvent) -> None:
    state.signed_at = event.at


def _finish(state: OrderState, event: OrderEvent) -> None:
    state.finished_at = state.ended_at = event.at
    if state.paid_at is None:  # cash on delivery is paid at the door
        state.paid_at = event.at
    for line in state.open_lines:
        line.ended_at = event.at


def _rate(state: OrderState, _: OrderEvent) -> None:
    if state.buyer_rated:
        state.seller_rated = True
    state.buyer_rated = True


def _memo(state: OrderState, _: OrderEvent) -> None:
    state.memos += 1


def _address(state: OrderState, _: OrderEvent) -> None:
    state.addresses += 1


def _refund_create(state: OrderState, event: OrderEvent) -> None:
    line = state.lines[event.line - 1]
    refund = RefundState(
        "WAIT_SELLER_AGREE",
        len(line.refunds) + 1,
        "onsale" if state.finished_at is None else "aftersale",
        goods_return=line.shipped_at is not None,
        created=event.at,
        modified=event.at,
    )
    line.refunds = (*line.refunds, refund)


def _set_refund(status: str) -> Callable[[OrderState, OrderEvent], None]:
    def apply(state: OrderState, event: OrderEvent) -> None:
        refund = state.lines[event.line - 1].refund
        if refund is None:
            raise ValueError(f"{event.kind} of line {event.line} without a refund")
        refund.status, refund.modified = status, event.at

    return apply


def _refund_return(state: OrderState, event: OrderEvent) -> None:
    _set_refund("WAIT_SELLER_CONFIRM_GOODS")(state, event)
    refund = state.lines[event.line - 1].refund
    if refund is not None:
        refund.returned_at = event.at


def _refund_success(state: OrderState, event: OrderEvent) -> None:
    _set_refund("SUCCESS")(state, event)
    if state.finished_at is not None:
        return
    line = state.lines[event.line - 1]
    line.refunded, line.ended_at = True, event.at
    if not state.open_lines:
        state.ended_at = event.at


_APPLY: Mapping[EventKind, Callable[[OrderState, OrderEvent], None]] = {
    EventKind.MODIFY_FEE: _modify_fee,
    EventKind.CARD: _card,
    EventKind.PRE_AUTH: _pre_auth,
    EventKind.PAY: _pay,
    EventKind.PAY_DEPOSIT: _pay_deposit,
    EventKind.CLOSE_UNPAID: _close_unpaid,
    EventKind.HOLD: _hold,
    EventKind.RELEASE: _release,
    EventKind.SHIP: _ship,
    EventKind.SHIP_LINE: _ship_line,
    EventKind.EXTEND: _extend,
    EventKind.SIGN: _sign,
    EventKind.FINISH: _finish,
    EventKind.RATE: _rate,
    EventKind.MEMO: _memo,
    EventKind.ADDRESS: _address,
    EventKind.REFUND_CREATE: _refund_create,
    EventKind.REFUND_AGREE: _set_refund("WAIT_BUYER_RETURN_GOODS"),
    EventKind.REFUND_REFUSE: _set_refund("SELLER_REFUSE_BUYER"),
    EventKind.REFUND_RETURN: _refund_return,
    EventKind.REFUND_CLOSE: _set_refund("CLOSED"),
    EventKind.REFUND_SUCCESS: _refund_success,
}
