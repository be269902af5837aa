"""The simulated world: its sellers, their orders, and what happens to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NamedTuple

from schemas import platform_time
from topsync.simulator import wire
from topsync.simulator.amounts import Amounts
from topsync.simulator.book import OrderBook
from topsync.simulator.clock import PlatformClock
from topsync.simulator.dice import Dice
from topsync.simulator.drafts import Draft
from topsync.simulator.history import PastSpan, SellerHistory
from topsync.simulator.ids import key_of
from topsync.simulator.journal import ReportChange, no_report
from topsync.simulator.life import REFUND_KINDS, EventKind, OrderEvent, OrderState, TradeType
from topsync.simulator.moves import Move, follow_ups, possible
from topsync.simulator.sellers import SimulatedSeller, seller_of
from topsync.simulator.settings import WorldSettings
from topsync.simulator.trades import full_trade
from topsync.simulator.wire import JsonObject

REACHABLE_DAYS = 90
"""Orders created earlier are out of reach of every API (docs/platform/gateway.md 3.4, 3.6)."""


class ImpossibleMoveError(ValueError):
    """The order's state does not allow the move; nothing has changed."""


class Happening(NamedTuple):
    """Something that has just happened to an order, with the order's state after it."""

    seller: SimulatedSeller
    draft: Draft
    event: OrderEvent
    state: OrderState
    amounts: Amounts


def histories(settings: WorldSettings) -> Iterator[SellerHistory]:
    """The past of each seller, by index."""
    first_day = settings.start_day - timedelta(days=settings.history_days)
    span = PastSpan(int(platform_time.start_of(first_day).timestamp()), settings.start_second)
    for index in range(settings.sellers):
        yield SellerHistory(settings.seed, index, settings.orders_of(index), span)


class World:
    """State of the platform: a pure past, and over it all changes. For one event loop, not thread-safe."""

    def __init__(
        self,
        settings: WorldSettings,
        clock: PlatformClock,
        *,
        visibility_delay_seconds: int = 0,
        visibility_fault: Callable[[int], tuple[int, int] | None] = lambda _: None,
        aftersale_refunds_move_orders: bool = True,
        report: ReportChange = no_report,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.visibility_delay_seconds = visibility_delay_seconds
        """Longest time until lists show a change of now or later."""
        self._visibility_fault = visibility_fault
        self._aftersale_refunds_move_orders = aftersale_refunds_move_orders
        self.books = [
            OrderBook(settings.seed, seller_of(settings.seed, index), history, report)
            for index, history in enumerate(histories(settings))
        ]
        self._by_user_id = {book.seller.user_id: book for book in self.books}
        self._changes = 0

    def book(self, seller: SimulatedSeller) -> OrderBook:
        """A seller's orders."""
        return self.books[seller.index]

    def book_of(self, user_id: int) -> OrderBook | None:
        """The orders of the seller with this id."""
        return self._by_user_id.get(user_id)

    def oldest_reachable(self) -> int:
        """The first second of the ninety days before today; older orders are out of reach."""
        return wire.start_of_day(self.clock.second()) - REACHABLE_DAYS * wire.DAY_SECONDS

    def number_of(self, seller: SimulatedSeller, tid: int) -> int | None:
        """The number of a seller's order; None when the seller has no such order."""
        key = key_of(tid)
        if key is None or key.seller != seller.index or key.number not in self.book(seller):
            return None
        return key.number

    def trade(self, seller: SimulatedSeller, number: int) -> JsonObject:
        """The full current trade, every field."""
        return full_trade(seller, *self.book(seller).current(number))

    def possible(self, seller: SimulatedSeller, number: int) -> list[Move]:
        """What can happen next to an order."""
        return possible(self.book(seller).current(number).state)

    def create(
        self, seller: SimulatedSeller, type_: TradeType | None = None, min_lines: int = 1
    ) -> Happening:
        """Let a buyer place an order, of a given type and number of lines or of any."""
        book = self.book(seller)
        number = book.next_number
        # An order follows from its number alone, so we skip numbers until the order has the wanted type.
        while not _is_wanted(book.draft(number), type_, min_lines):
            number += 1
        at = self.clock.second()
        book.create(number, at, self._visible_at(seller, at))
        return self._happening(book, number)

    def perform(self, seller: SimulatedSeller, number: int, move: Move) -> list[Happening]:
        """Make a move of an order now, and what the platform does in the same second because of it.

        Raises:
            ImpossibleMoveError: the order is not in a state for it.
        """
        if move not in self.possible(seller, number):
            raise ImpossibleMoveError(f"{move.kind} of line {move.line} cannot happen to this order now")
        book = self.book(seller)
        type_ = book.history.plan(number).type
        happenings: list[Happening] = []
        for each in (move, *follow_ups(type_, move)):
            at = max(self.clock.second(), book.events(number)[-1].at)
            moves_order = self._moves_order(book, number, each.kind)
            event = OrderEvent(at, each.kind, each.line, moves_order)
            book.add(number, event, self._visible_at(seller, at))
            happenings.append(self._happening(book, number))
        return happenings

    def _moves_order(self, book: OrderBook, number: int, kind: EventKind) -> bool:
        if self._aftersale_refunds_move_orders or kind not in REFUND_KINDS:
            return True
        return book.brief_state(number, book.events(number)).finished_at is None

    def _happening(self, book: OrderBook, number: int) -> Happening:
        draft, state, amounts = book.current(number)
        return Happening(book.seller, draft, book.events(number)[-1], state, amounts)

    def _visible_at(self, seller: SimulatedSeller, at: int) -> int:
        self._changes += 1  # chance depends on it, so it always grows
        least, longest = self._visibility_fault(seller.user_id) or (0, self.visibility_delay_seconds)
        if not longest:
            return at
        delay = Dice(self.settings.seed, b"visible", self._changes).below(longest - least + 1)
        return at + least + delay


def _is_wanted(draft: Draft, type_: TradeType | None, min_lines: int) -> bool:
    return (type_ is None or draft.type is type_) and len(draft.lines) >= min_lines


def find_move(moves: list[Move], kind: EventKind, line: int | None) -> Move | None:
    """The move of a kind among the possible moves: of that line, or of the first line that has it."""
    return next((move for move in moves if move.kind is kind and line in (None, move.line)), None)
