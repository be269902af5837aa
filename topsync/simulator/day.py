"""An ordinary day of a platform: what happens to one order within seconds, and how often.

A day consists of *scenes*: changes of the same order that follow each other within seconds or minutes, made
by a buyer, a seller's software or the platform. Between two scenes of an order there are hours or days. We
leave these out to shorten the day: each scene is played at its real pace, on an order that is ready for it.
So at any moment orders of every age are in play, as on the platform.

`topics.py` says which messages a change sends. Evidence for the mix (docs/platform/channel.md,
docs/platform/gateway.md):

- which message a change sends: documented (docs/platform/channel.md 7.1, 7.2);
- several messages for one change: a new order sends two (7.1). Where the catalogue lists `oid` as always
  there, a change of several lines sends a message for each line: **inferred**, and a switch
  (`messages_per_line`). The official client can merge bursts of messages about one order within a second
  (6), so there are such bursts: verified in code;
- at least once: the fault `duplicate` switches repetitions on; no source says how many there are;
- how often each scene is played, and its pace: **inferred**, for a shop whose software answers
  payments and refunds by itself. No source has figures.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Final

from topsync.simulator.ids import OrderKey
from topsync.simulator.life import EventKind, OrderState, TradeType
from topsync.simulator.moves import Move
from topsync.simulator.world import Happening, World, find_move

LOOKED_AT: Final = 800
"""How many of each seller's newest orders to play scenes on at the start."""

KEPT_READY: Final = 5000
"""Orders to keep that are ready for a kind of scene; the oldest are dropped first."""


@dataclass(frozen=True, slots=True)
class Act:
    """A change, and how many seconds after the change before it happens."""

    kind: EventKind
    after_seconds: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """Changes of one order that follow each other, and how often they are played per hundred new orders."""

    name: str
    times: int
    acts: tuple[Act, ...]
    type: TradeType | None = None
    """The type of a new order; None is any."""
    ready: str = ""
    """The kind of order that the scene needs; empty: a new order."""


_NEW: Final = Act(EventKind.CREATE)

SCENES: Final[tuple[Scene, ...]] = (
    Scene("bought and paid", 55, (_NEW, Act(EventKind.PAY, (3, 20))), TradeType.FIXED),
    Scene("bought, not paid yet", 28, (_NEW,), TradeType.FIXED),
    Scene(
        "bargained",
        3,
        (_NEW, Act(EventKind.MODIFY_FEE, (10, 40)), Act(EventKind.PAY, (5, 30))),
        TradeType.FIXED,
    ),
    Scene("voucher", 6, (_NEW, Act(EventKind.PAY, (3, 15))), TradeType.AUTO_DELIVERY),
    Scene("presale", 5, (_NEW, Act(EventKind.PAY_DEPOSIT, (3, 20))), TradeType.STEP),
    Scene("cash on delivery", 3, (_NEW,), TradeType.COD),
    Scene("paid later", 18, (Act(EventKind.PAY),), ready="unpaid"),
    Scene("not paid in time", 10, (Act(EventKind.CLOSE_UNPAID),), ready="unpaid"),
    Scene("marked by the seller's software", 12, (Act(EventKind.MEMO),), ready="paid"),
    Scene("marked and noted", 6, (Act(EventKind.MEMO), Act(EventKind.MEMO, (1, 4))), ready="paid"),
    Scene("sent elsewhere", 2, (Act(EventKind.ADDRESS),), ready="paid"),
    Scene("shipped", 66, (Act(EventKind.SHIP),), ready="paid"),
    Scene(
        "shipped in parcels",
        8,
        (Act(EventKind.SHIP_LINE), Act(EventKind.SHIP_LINE, (0.2, 2)), Act(EventKind.SHIP, (0.2, 2))),
        ready="paid, several lines",
    ),
    Scene(
        "refunded before it was shipped",
        6,
        (Act(EventKind.REFUND_CREATE), Act(EventKind.REFUND_SUCCESS, (1, 5))),
        ready="paid",
    ),
    Scene("received", 40, (Act(EventKind.FINISH),), ready="shipped"),
    Scene(
        "received and rated by both",
        28,
        (Act(EventKind.FINISH), Act(EventKind.RATE, (3, 20)), Act(EventKind.RATE, (0.5, 3))),
        ready="shipped",
    ),
    Scene("asked for more time", 3, (Act(EventKind.EXTEND),), ready="shipped"),
    Scene("refund wanted", 4, (Act(EventKind.REFUND_CREATE),), ready="shipped"),
    Scene("refund taken back", 2, (Act(EventKind.REFUND_CLOSE),), ready="refunding"),
    Scene("rated late", 8, (Act(EventKind.RATE), Act(EventKind.RATE, (0.5, 3))), ready="finished"),
)

CHANGES_PER_SCENE: Final = sum(scene.times * len(scene.acts) for scene in SCENES) / sum(
    scene.times for scene in SCENES
)


def readiness(state: OrderState) -> str:
    """The kind of scene that an order is ready for; empty when no scene is left for it."""
    if any(line.refund is not None and line.refund.status == "WAIT_SELLER_AGREE" for line in state.lines):
        return "refunding"
    if any(line.refund is not None for line in state.lines):
        return ""
    match state.status:
        case "WAIT_BUYER_PAY" if state.type is TradeType.FIXED:
            return "unpaid"
        case "WAIT_SELLER_SEND_GOODS" if state.type is TradeType.FIXED:
            return "paid, several lines" if len(state.lines) > 2 else "paid"
        case "WAIT_BUYER_CONFIRM_GOODS" if state.type is not TradeType.COD:
            return "shipped"
        case "TRADE_FINISHED" if not state.buyer_rated:
            return "finished"
        case _:
            return ""


@dataclass(slots=True)
class Day:
    """Plays scenes in a world; all choices come from a single seed. `now` is monotonic, in seconds."""

    world: World
    chance: random.Random
    _ready: defaultdict[str, deque[OrderKey]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=KEPT_READY))
    )
    _due: list[tuple[float, int, OrderKey, tuple[Act, ...]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        for book in self.world.books:
            for number in reversed(book.newest(LOOKED_AT)):
                state = book.brief_state(number, book.events(number))
                self._keep(OrderKey(book.seller.index, number), state)

    def begin(self, now: float) -> list[Happening]:
        """Play the first change of a scene for which there is an order."""
        weights = [scene.times for scene in SCENES]
        while True:
            scene = self.chance.choices(SCENES, weights)[0]
            if not scene.ready:
                return self._open(scene, now)
            ready = self._ready[scene.ready]
            if ready and (happenings := self._act(ready.popleft(), scene.acts, now)):
                return happenings

    def go_on(self, now: float) -> Iterator[list[Happening]]:
        """Play the changes that are due."""
        while self._due and self._due[0][0] <= now:
            _, _, key, acts = heappop(self._due)
            if happenings := self._act(key, acts, now):
                yield happenings

    def _open(self, scene: Scene, now: float) -> list[Happening]:
        seller = self.chance.choice(self.world.books).seller
        created = self.world.create(seller, scene.type)
        self._follow(created.draft.key, scene.acts[1:], created.state, now)
        return [created]

    def _act(self, key: OrderKey, acts: tuple[Act, ...], now: float) -> list[Happening]:
        seller = self.world.books[key.seller].seller
        move = find_move(self.world.possible(seller, key.number), acts[0].kind, None)
        if move is None:  # e.g. the last line of a shipment in parcels
            return self._act(key, acts[1:], now) if len(acts) > 1 else []
        happenings = self.world.perform(seller, key.number, Move(move.kind, move.line))
        self._follow(key, acts[1:], happenings[-1].state, now)
        return happenings

    def _follow(self, key: OrderKey, acts: tuple[Act, ...], state: OrderState, now: float) -> None:
        if acts:
            due = now + self.chance.uniform(*acts[0].after_seconds)
            heappush(self._due, (due, next(self._numbers), key, acts))
        else:
            self._keep(key, state)

    def _keep(self, key: OrderKey, state: OrderState) -> None:
        if ready := readiness(state):
            self._ready[ready].append(key)
