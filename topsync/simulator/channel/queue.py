"""One group's queue of messages on the platform's side: what is due, in flight, and over.

A state machine without I/O; `now` comes with each call and must not go back. The rules are
those of docs/platform/channel.md 6: at least once, redelivery after a failure or a missing confirm,
retention, no promise about order.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from heapq import heappop, heappush
from typing import Final, NamedTuple

from schemas import platform_time
from topsync.simulator.faults.effects import PLAIN, Fate

DEFAULT_GROUP: Final = "default"
"""The group that always exists (docs/platform/channel.md 6)."""


class OutboundMessage(NamedTuple):
    """A message as the platform's publisher makes it. `content` is JSON text; `published_at` is UTC."""

    user_id: int
    nick: str
    topic: str
    content: str
    published_at: datetime
    data_id: str
    group: str = DEFAULT_GROUP
    """The group that it is routed to; if that group does not exist, it goes to the default group."""

    def __repr__(self) -> str:
        """Without the content, which holds a buyer's data."""
        return f"OutboundMessage(user_id={self.user_id}, topic={self.topic!r})"


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The settings of the channel that a queue needs; `ChannelSettings` explains them."""

    confirm_timeout: timedelta
    redelivery_delay: timedelta
    retention: timedelta
    window: int
    max_messages: int
    new_id_on_redelivery: bool
    failed_delay: timedelta | None = None
    max_redeliveries: int | None = None
    earliest_confirm: timedelta = timedelta(0)


class MessagePlace(Enum):
    """Where a message is."""

    READY = "ready"
    HELD = "held"
    """Published, and not yet ready: a fault delays it."""
    IN_FLIGHT = "in_flight"
    WAITING = "waiting"
    OVER = "over"


@dataclass(slots=True, eq=False)
class Queued:
    """A message in the queue. `carrier` numbers the connection that it was last given to."""

    id: int
    message: OutboundMessage
    place: MessagePlace
    due_at: datetime
    retried: int = 0
    carrier: int = 0
    fate: Fate = PLAIN


@dataclass(slots=True)
class QueueTotals:
    """Counts of what has happened.

    published = confirmed + lost + expired + exhausted + overflowed + pending + in flight.
    """

    published: int = 0
    sent: int = 0
    """Deliveries; a frame that a fault repeats is counted in `duplicated` instead."""
    duplicated: int = 0
    confirmed: int = 0
    failed: int = 0
    redelivered: int = 0
    lost: int = 0
    expired: int = 0
    exhausted: int = 0
    """Gone because the last redelivery failed too."""
    overflowed: int = 0
    confirmed_early: int = 0
    """Confirms that came too soon after the delivery, and were ignored."""


class MessageQueue:
    """See the module. `new_id` makes message ids."""

    def __init__(self, rules: QueueRules, chance: random.Random, new_id: Callable[[], int]) -> None:
        self._rules = rules
        self._chance = chance
        self._new_id = new_id
        self._messages: dict[int, Queued] = {}
        self._backlog: deque[Queued] = deque()
        self._window: list[Queued] = []
        # Dicts keep the order of insertion, and each dict has a single delay: so it is ordered by due_at.
        self._in_flight: dict[int, Queued] = {}
        self._waiting: dict[int, Queued] = {}
        self._failed: dict[int, Queued] = {}
        self._held: list[tuple[datetime, int, Queued]] = []
        self._short_lived: list[tuple[datetime, int, Queued]] = []
        self._next_expiry: datetime | None = None
        self._carried: Counter[int] = Counter()
        self.counts = QueueTotals()
        self._day = DayCounts()

    @property
    def in_flight(self) -> int:
        """Messages sent, neither answered nor timed out."""
        return len(self._in_flight)

    @property
    def pending(self) -> int:
        """Messages ready to be sent, or waiting for their redelivery."""
        return len(self._messages) - len(self._in_flight)

    def carried_by(self, carrier: int) -> int:
        """How many messages that connection has in flight."""
        return self._carried[carrier]

    @property
    def held(self) -> int:
        """Pending messages that a fault keeps from being ready."""
        return sum(queued.place is MessagePlace.HELD for _, _, queued in self._held)

    def publish(self, message: OutboundMessage, now: datetime, fate: Fate = PLAIN) -> None:
        """Take a message in. A full queue refuses it, and counts it as overflowed.

        The queue itself applies `hold_seconds` and `life_seconds` of the fate; the sender applies the rest.
        """
        self.counts.published += 1
        self.today(now).put += 1
        if len(self._messages) >= self._rules.max_messages:
            self.counts.overflowed += 1
            return
        queued = Queued(self._new_id(), message, MessagePlace.READY, now, fate=fate)
        self._messages[queued.id] = queued
        if self._next_expiry is None:
            self._next_expiry = self._over_age_at(queued)
        if fate.life_seconds is not None:
            heappush(self._short_lived, (self._over_age_at(queued), queued.id, queued))
        if fate.hold_seconds:
            self._move(queued, MessagePlace.HELD, now + timedelta(seconds=fate.hold_seconds))
            heappush(self._held, (queued.due_at, queued.id, queued))
        else:
            self._backlog.append(queued)

    def lose(self) -> None:
        """Count a message that is lost before it is queued."""
        self.counts.published += 1
        self.counts.lost += 1

    def lose_unconfirmed(self) -> None:
        """Lose for ever each message that was sent at least once and not confirmed."""
        for queued in list(self._messages.values()):
            if queued.place in (MessagePlace.IN_FLIGHT, MessagePlace.WAITING) or queued.retried:
                self._end(queued)
                self.counts.lost += 1

    def take(self, now: datetime, carrier: int) -> Queued | None:
        """Take the next message for that connection, in flight from now on; None when no message is ready."""
        while (queued := self._pick()) is not None:
            if self._is_over_age(queued, now):
                self._expire(queued)
            elif queued.place is MessagePlace.READY:
                self._move(queued, MessagePlace.IN_FLIGHT, now + self._rules.confirm_timeout)
                queued.carrier = carrier
                self._carried[carrier] += 1
                self.counts.sent += 1
                self.today(now).read += queued.retried == 0
                self.counts.redelivered += queued.retried > 0
                return queued
        return None

    def confirm(self, message_id: int, now: datetime | None = None) -> bool:
        """Finish a message, also after a Failed or a time-out (docs/platform/channel.md 4.3).

        With `now`, a confirm that comes too soon after its delivery is ignored, if the rules say so.
        """
        queued = self._messages.get(message_id)
        if queued is None:
            return False
        if now is not None and self._is_too_early(queued, now):
            self.counts.confirmed_early += 1
            return False
        self._end(queued)
        self.counts.confirmed += 1
        return True

    def fail(self, message_id: int, now: datetime) -> None:
        """Note that the client could not process it: it is delivered again after a delay."""
        queued = self._in_flight.get(message_id)
        if queued is not None:
            self.counts.failed += 1
            delay = self._rules.failed_delay
            self._move(
                queued, MessagePlace.WAITING, now + (self._rules.redelivery_delay if delay is None else delay)
            )
            self._failed[queued.id] = self._waiting.pop(queued.id)

    def advance(self, now: datetime) -> None:
        """Let time pass: confirms time out, redeliveries become due, old messages expire."""
        for queued in _due(self._in_flight, now):
            self._move(queued, MessagePlace.WAITING, queued.due_at + self._rules.redelivery_delay)
        for queued in (*_due(self._waiting, now), *_due(self._failed, now)):
            self._redeliver(queued, now)
        while self._held and self._held[0][0] <= now:
            held = heappop(self._held)[2]
            if held.place is MessagePlace.HELD:
                self._move(held, MessagePlace.READY, now)
                self._backlog.append(held)
        while self._short_lived and self._short_lived[0][0] <= now:
            short_lived = heappop(self._short_lived)[2]
            if short_lived.place is not MessagePlace.OVER:
                self._expire(short_lived)
        if self._next_expiry is not None and self._next_expiry <= now:
            self._expire_oldest(now)
        # Finished messages leave the backlog here too, or it would grow while nobody is connected.
        while self._backlog and self._backlog[0].place is MessagePlace.OVER:
            self._backlog.popleft()

    def forget_carrier(self, carrier: int) -> None:
        """Note that a connection is gone; its number is never used again.

        Its messages still wait for their confirm, which may come on another connection.
        """
        del self._carried[carrier]

    def today(self, now: datetime) -> DayCounts:
        """The counts of the platform's day; they start again at its midnight."""
        day = platform_time.day_of(now)
        if day != self._day.day:
            self._day = DayCounts(day)
        return self._day

    def lose_all(self) -> None:
        """Lose everything in the queue for ever: its group has been deleted."""
        for queued in list(self._messages.values()):
            self._end(queued)
            self.counts.lost += 1

    def _pick(self) -> Queued | None:
        while self._backlog and len(self._window) < self._rules.window:
            self._window.append(self._backlog.popleft())
        if not self._window:
            return None
        index = int(self._chance.random() * len(self._window))
        self._window[index], self._window[-1] = self._window[-1], self._window[index]
        return self._window.pop()

    def _redeliver(self, queued: Queued, now: datetime) -> None:
        if queued.retried == self._rules.max_redeliveries:
            self._end(queued)
            self.counts.exhausted += 1
            return
        queued.retried += 1
        self._move(queued, MessagePlace.READY, now)
        if self._rules.new_id_on_redelivery:
            del self._messages[queued.id]
            queued.id = self._new_id()
            self._messages[queued.id] = queued
        self._backlog.append(queued)

    def _is_too_early(self, queued: Queued, now: datetime) -> bool:
        if not self._rules.earliest_confirm or queued.place is not MessagePlace.IN_FLIGHT:
            return False
        return now < queued.due_at - self._rules.confirm_timeout + self._rules.earliest_confirm

    def _expire_oldest(self, now: datetime) -> None:
        """Expire old messages, but search only when there can be any: to find the oldest takes time."""
        while self._messages and self._is_over_age(oldest := next(iter(self._messages.values())), now):
            self._expire(oldest)
        self._next_expiry = self._over_age_at(oldest) if self._messages else None

    def _is_over_age(self, queued: Queued, now: datetime) -> bool:
        return queued.place is not MessagePlace.OVER and now >= self._over_age_at(queued)

    def _over_age_at(self, queued: Queued) -> datetime:
        life = queued.fate.life_seconds
        retention = self._rules.retention if life is None else timedelta(seconds=life)
        return queued.message.published_at + retention

    def _expire(self, queued: Queued) -> None:
        self._end(queued)
        self.counts.expired += 1

    def _end(self, queued: Queued) -> None:
        self._move(queued, MessagePlace.OVER, queued.due_at)
        del self._messages[queued.id]

    def _move(self, queued: Queued, place: MessagePlace, due_at: datetime) -> None:
        """The only writer of a message's place."""
        if self._in_flight.pop(queued.id, None) is not None and queued.carrier in self._carried:
            self._carried[queued.carrier] -= 1
        self._waiting.pop(queued.id, None)
        self._failed.pop(queued.id, None)
        queued.place, queued.due_at = place, due_at
        if place is MessagePlace.IN_FLIGHT:
            self._in_flight[queued.id] = queued
        elif place is MessagePlace.WAITING:
            self._waiting[queued.id] = queued


@dataclass(slots=True)
class DayCounts:
    """What has happened on one of the platform's days."""

    day: date | None = None
    put: int = 0
    read: int = 0
    """First deliveries; put minus read is the backlog."""


def _due(timed: dict[int, Queued], now: datetime) -> list[Queued]:
    due = []
    for queued in timed.values():
        if queued.due_at > now:
            break
        due.append(queued)
    return due
