"""Which messages each seller has permitted, and which group they go to.

Reference: docs/platform/gateway.md 3.12; docs/platform/channel.md 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import orjson

from topsync.simulator.channel.channel import OutboundMessage
from topsync.simulator.groups import Groups
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.topics import Notice


@dataclass(frozen=True, slots=True)
class Permit:
    """The topics that a seller has permitted; None is every topic of the app.

    Attributes:
        is_valid: false after the session has ended, until the seller is permitted again.
    """

    topics: frozenset[str] | None
    created: datetime
    modified: datetime
    is_valid: bool = True


@dataclass(slots=True)
class TopicSubscriptions:
    """The permitted topics per seller, in front of the channel.

    A seller who was never permitted sends nothing. Permission replaces the whole list
    (docs/platform/gateway.md 3.12), and ends with the session (6.1, 19).
    """

    publish: Callable[[OutboundMessage], None]
    now: Callable[[], datetime]
    is_authorised: Callable[[SimulatedSeller], bool] = lambda _: True
    groups: Groups = field(default_factory=Groups)
    _permits: dict[int, Permit] = field(default_factory=dict)

    def permit(self, seller: SimulatedSeller, topics: frozenset[str] | None) -> None:
        """Permit these topics for a seller, and no others; None is every topic of the app."""
        now, former = self.now(), self._permits.get(seller.index)
        self._permits[seller.index] = Permit(topics, now if former is None else former.created, now)

    def cancel(self, seller: SimulatedSeller) -> bool:
        """Permit nothing any more; returns whether anything was permitted."""
        return self._permits.pop(seller.index, None) is not None

    def end(self, seller: SimulatedSeller) -> None:
        """Permit nothing until the seller is permitted again: the session has ended."""
        if permit := self._permits.get(seller.index):
            self._permits[seller.index] = replace(permit, is_valid=False)

    def permit_of(self, seller: SimulatedSeller) -> Permit | None:
        """What is permitted; None for a seller who was never permitted, or was cancelled."""
        return self._permits.get(seller.index)

    def topics_of(self, seller: SimulatedSeller) -> frozenset[str] | None:
        """The permitted topics; empty where nothing is permitted, None for all."""
        permit = self._permits.get(seller.index)
        return permit.topics if permit is not None and permit.is_valid else frozenset()

    def send(self, seller: SimulatedSeller, notice: Notice) -> bool:
        """Publish a message if its topic is permitted; returns whether it is."""
        if not self.is_authorised(seller):
            return False
        topics = self.topics_of(seller)
        if topics is not None and notice.topic not in topics:
            return False
        self.publish(
            OutboundMessage(
                user_id=seller.user_id,
                nick=seller.nick,
                topic=notice.topic,
                content=orjson.dumps(notice.content).decode(),
                published_at=self.now(),
                data_id=notice.data_id,
                group=self.groups.of(seller, notice.topic),
            )
        )
        return True
