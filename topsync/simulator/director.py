"""Makes things happen: one named change at once, or a steady stream of them, with their messages."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from topsync.simulator.day import CHANGES_PER_SCENE, Day
from topsync.simulator.ids import OrderKey
from topsync.simulator.life import EventKind, TradeType
from topsync.simulator.moves import Move
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.subscriptions import TopicSubscriptions
from topsync.simulator.topics import notices_of
from topsync.simulator.world import Happening, ImpossibleMoveError, World, find_move

_TICK_SECONDS = 0.02
_MOST_PER_TICK = 500
"""After a stall the stream catches up in steps of at most this many changes, so that the gateway answers."""

_CREATE_PER_CENT = 30
_DOUBLE_PER_CENT = 5
"""How often, in per cent, a second change of the same order follows in the same second."""
_RECENT_ORDERS = 400
_SEARCHED_ORDERS = 2000

_WEIGHTS: Mapping[EventKind, int] = {
    EventKind.PAY: 60,
    EventKind.PAY_DEPOSIT: 60,
    EventKind.CARD: 2,
    EventKind.PRE_AUTH: 40,
    EventKind.HOLD: 2,
    EventKind.RELEASE: 40,
    EventKind.SHIP: 40,
    EventKind.SHIP_LINE: 12,
    EventKind.FINISH: 30,
    EventKind.SIGN: 20,
    EventKind.CLOSE_UNPAID: 8,
    EventKind.MODIFY_FEE: 4,
    EventKind.MEMO: 3,
    EventKind.ADDRESS: 2,
    EventKind.EXTEND: 2,
    EventKind.RATE: 6,
    EventKind.REFUND_CREATE: 3,
    EventKind.REFUND_AGREE: 20,
    EventKind.REFUND_REFUSE: 5,
    EventKind.REFUND_RETURN: 20,
    EventKind.REFUND_CLOSE: 8,
    EventKind.REFUND_SUCCESS: 20,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """A change that a caller asks for."""

    event: str
    """`create`, `advance` (any next change), or the name of an `EventKind`."""
    tid: int | None = None
    """The order; None takes a recent order to which it can happen."""
    line: int | None = None
    type: TradeType | None = None
    min_lines: int = 1
    message: bool = True
    """Whether messages about it are sent."""


class Director:
    """Makes changes in a world and sends their messages. All choices come from a single seeded source."""

    def __init__(
        self,
        world: World,
        subscriptions: TopicSubscriptions,
        quirks: PlatformQuirks,
        seed: int,
        *,
        as_on_a_day: bool = False,
    ) -> None:
        self._world = world
        self._subscriptions = subscriptions
        self._quirks = quirks
        self._random = random.Random(seed)  # noqa: S311 -- a scenario, not a secret
        self._day = Day(world, self._random) if as_on_a_day else None
        self._rate = 0.0
        self._rate_changed = asyncio.Event()
        self.performed = 0
        """Changes since the start."""
        self.closed: set[int] = set()
        """Sellers, by index, to whose orders the stream does nothing; an ordinary day goes on."""

    @property
    def rate(self) -> float:
        """Changes per second of the stream; 0 while it is paused."""
        return self._rate

    def set_rate(self, rate: float) -> None:
        """Set the stream's changes per second; 0 pauses it at once."""
        self._rate = rate
        self._rate_changed.set()

    async def stream(self) -> None:
        """Make changes at the set rate, until cancelled."""
        while True:
            self._rate_changed.clear()
            if not self._rate:
                await self._rate_changed.wait()
                continue
            await self._stream_at(self._rate)

    def grant(self, user_id: int, wish: Wish) -> Happening:
        """Make the wished change now; returns the last thing that it made happen.

        Raises:
            KeyError: no such seller, or the seller has no such order.
            ValueError: `event` names nothing that can happen.
            ImpossibleMoveError: it cannot happen to that order, or to any recent order.
        """
        book = self._world.book_of(user_id)
        if book is None:
            raise KeyError(f"no seller has the id {user_id}")
        if wish.event == "create":
            happenings = [self._world.create(book.seller, wish.type, wish.min_lines)]
        else:
            number, move = self._find(book.seller.index, wish)
            happenings = self._world.perform(book.seller, number, move)
        return self._send_messages(happenings, message=wish.message)

    def step(self) -> Happening:
        """Make a random change in a shop that is not closed, as the stream does; there must be one."""
        index = self._random.randrange(len(self._world.books))
        while index in self.closed:
            index = self._random.randrange(len(self._world.books))
        key = None if self._chance(_CREATE_PER_CENT) else self._choose_order(index)
        if key is None:
            return self._send_messages([self._world.create(self._world.books[index].seller)])
        happening = self._advance(key)
        return self._advance(key) if self._chance(_DOUBLE_PER_CENT) else happening

    async def _stream_at(self, rate: float) -> None:
        began, made = time.monotonic(), 0
        steps = rate if self._day is None else rate / CHANGES_PER_SCENE
        while not self._rate_changed.is_set():
            now = time.monotonic()
            due = int((now - began) * steps) - made
            for _ in range(min(due, _MOST_PER_TICK)):
                if len(self.closed) == len(self._world.books):
                    pass
                elif self._day is None:
                    self.step()
                else:
                    self._send_messages(self._day.begin(now))
                made += 1
            for happenings in () if self._day is None else self._day.go_on(now):
                self._send_messages(happenings)
            await asyncio.sleep(_TICK_SECONDS)

    def _advance(self, key: OrderKey) -> Happening:
        seller = self._world.books[key.seller].seller
        moves = self._world.possible(seller, key.number)
        weights = [_WEIGHTS[move.kind] for move in moves]
        move = self._random.choices(moves, weights)[0]
        return self._send_messages(self._world.perform(seller, key.number, move))

    def _choose_order(self, index: int) -> OrderKey | None:
        """An order that was changed or created lately."""
        book = self._world.books[index]
        recent = book.recently_changed(_RECENT_ORDERS) if self._chance(60) else book.newest(_RECENT_ORDERS)
        return OrderKey(index, self._random.choice(recent)) if recent else None

    def _find(self, index: int, wish: Wish) -> tuple[int, Move]:
        book = self._world.books[index]
        if wish.tid is not None:
            number = self._world.number_of(book.seller, wish.tid)
            if number is None:
                raise KeyError(f"the seller has no order {wish.tid}")
            numbers = [number]
        else:
            numbers = book.newest(_SEARCHED_ORDERS)
        for number in numbers:
            move = self._move(self._world.possible(book.seller, number), wish)
            if move is not None:
                return number, move
        raise ImpossibleMoveError(
            f"{wish.event} cannot happen to {'that order' if wish.tid else 'any order'} now"
        )

    def _move(self, moves: list[Move], wish: Wish) -> Move | None:
        if wish.event == "advance":
            return self._random.choices(moves, [_WEIGHTS[move.kind] for move in moves])[0]
        return find_move(moves, EventKind(wish.event), wish.line)

    def _send_messages(self, happenings: list[Happening], *, message: bool = True) -> Happening:
        self.performed += len(happenings)
        for happening in happenings if message else ():
            for notice in notices_of(happening, self._quirks):
                self._subscriptions.send(happening.seller, notice)
        return happenings[-1]

    def _chance(self, per_cent: int) -> bool:
        return self._random.randrange(100) < per_cent
