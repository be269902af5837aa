"""Which messages each seller's authorisation lets through (`taobao.tmc.user.permit`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from topsync.simulator.channel import OutboundMessage
from topsync.simulator.sellers import Seller
from topsync.simulator.topics import Notice


@dataclass(slots=True)
class Subscriptions:
    """The permitted topics per seller, in front of the channel.

    A seller who was never permitted sends nothing. Permission replaces the whole list
    (reference/top-api.md 3.12), and ends with the session (6.1, 19).
    """

    publish: Callable[[OutboundMessage], None]
    now: Callable[[], datetime]
    is_authorised: Callable[[Seller], bool] = lambda _: True
    _topics: dict[int, frozenset[str] | None] = field(default_factory=dict)

    def permit(self, seller: Seller, topics: frozenset[str] | None) -> None:
        """Let these topics through for a seller, and no others; None is every topic of the app."""
        self._topics[seller.index] = topics

    def end(self, seller: Seller) -> None:
        """Let nothing through any more, until permitted anew."""
        self._topics.pop(seller.index, None)

    def topics_of(self, seller: Seller) -> frozenset[str] | None:
        """The permitted topics; empty for a seller who was never permitted, None for all."""
        return self._topics.get(seller.index, frozenset())

    def send(self, seller: Seller, notice: Notice) -> bool:
        """Publish a message if its topic is permitted; whether it was."""
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
            )
        )
        return True
