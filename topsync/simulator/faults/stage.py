"""The parts of a running platform that faults change: channel, messages, and the orders of a list."""

from __future__ import annotations

from dataclasses import dataclass

from topsync.simulator.authorisations import Authorisations
from topsync.simulator.book import OrderBook
from topsync.simulator.channel.channel import Channel
from topsync.simulator.channel.websocket import Opcode
from topsync.simulator.director import Director, Wish
from topsync.simulator.faults.effects import Disturbance, ListChange, SessionEnd
from topsync.simulator.ids import OrderKey, tid_of
from topsync.simulator.subscriptions import TopicSubscriptions
from topsync.simulator.topics import AUTH_CANCEL, Notice
from topsync.simulator.world import World

_MOST_TRIED = 50
"""How many orders to look at to find an order to which something can still happen."""


@dataclass(frozen=True, slots=True)
class FaultStage:
    """The `Platform` of faults, over the real parts."""

    world: World
    channel: Channel
    subscriptions: TopicSubscriptions
    director: Director
    authorisations: Authorisations

    def cut(self, seconds: float, *, lose_messages: bool) -> None:
        """Drop the channel's connections, and refuse new connections."""
        self.channel.cut(seconds, lose_messages=lose_messages)

    def end_cut(self) -> None:
        """Accept connections again, whatever cut them."""
        self.channel.end_cut()

    def silence(self, seconds: float, *, lose_messages: bool) -> None:
        """Send nothing on the channel."""
        self.channel.silence(seconds, lose_messages=lose_messages)

    def end_silence(self) -> None:
        """Send again, whatever made it silent."""
        self.channel.end_silence()

    def refuse(self, seconds: float, *, code: int, phrase: str) -> None:
        """Answer each CONNECT with an error."""
        self.channel.refuse(seconds, code=code, phrase=phrase)

    def end_refusal(self) -> None:
        """Accept CONNECTs again."""
        self.channel.end_refusal()

    def kick(self, code: int, reason: str, share: float) -> None:
        """Send a Close frame to clients of the channel; `share` (0 to 1) is the chance of each."""
        self.channel.kick(code, reason, share)

    def replace_tokens(self) -> None:
        """Push with new tokens, which clients get only by a new CONNECT."""
        self.channel.replace_tokens()

    def inject(self, payload: bytes, opcode: int, *, final: bool) -> None:
        """Send each client of the channel this payload in a WebSocket frame."""
        self.channel.inject(payload, Opcode(opcode), final=final)

    def hold_connections(self, *, new_ones_too: bool) -> None:
        """Neither read from nor write to the channel's connections."""
        self.channel.hold(new_ones_too=new_ones_too)

    def release_connections(self) -> None:
        """Read and write again."""
        self.channel.release()

    def cancel_authorisation(self, user_id: int | None) -> None:
        """Let a seller, or all sellers, withdraw the authorisation; a message is sent if it is permitted."""
        for book in self.world.books:
            seller = book.seller
            if user_id in (None, seller.user_id):
                content = {"user_id": seller.user_id, "open_id": f"AAopen{seller.user_id}"}
                self.subscriptions.send(seller, Notice(AUTH_CANCEL, dict(content), str(seller.user_id)))
                self.authorisations.cancel(seller)

    def close_shop(self, user_id: int | None) -> None:
        """Let nothing happen to a seller's orders by itself, or to any seller's."""
        self.director.closed |= self._indexes(user_id)

    def open_shop(self, user_id: int | None) -> None:
        """Let things happen again."""
        self.director.closed -= self._indexes(user_id)

    def _indexes(self, user_id: int | None) -> set[int]:
        sellers = (book.seller for book in self.world.books)
        return {seller.index for seller in sellers if user_id in (None, seller.user_id)}

    def end_session(self, end: SessionEnd) -> None:
        """End a session, unless another has taken its place."""
        book = self.world.book_of(end.user_id)
        if book is not None and self.authorisations.current(book.seller).token == end.token:
            self.authorisations.expire(book.seller, refreshable=end.refreshable)

    def disturb(self, disturbance: Disturbance) -> None:
        """Change what lists show of a seller's window; a change that is impossible is left out."""
        book = self.world.book_of(disturbance.user_id)
        if book is None:
            return
        for turn in range(disturbance.count):
            match disturbance.change:
                case ListChange.CREATE:
                    self._grant(disturbance, Wish("create", message=disturbance.message))
                case ListChange.MODIFY:
                    self._modify(book, disturbance, turn)
                case ListChange.REVEAL:
                    window = disturbance.window
                    book.reveal(window.first, window.last, self.world.clock.second())

    def _modify(self, book: OrderBook, disturbance: Disturbance, turn: int) -> None:
        window, now = disturbance.window, self.world.clock.second()
        numbers = [number for _, number in sorted(book.modified_between(window.first, window.last, now))]
        if not numbers:
            return
        start = disturbance.choice + turn
        for tried in range(min(len(numbers), _MOST_TRIED)):
            number = numbers[(start + tried) % len(numbers)]
            if self.world.possible(book.seller, number):
                tid = tid_of(OrderKey(book.seller.index, number))
                self._grant(disturbance, Wish("advance", tid, message=disturbance.message))
                return

    def _grant(self, disturbance: Disturbance, wish: Wish) -> None:
        self.director.grant(disturbance.user_id, wish)
