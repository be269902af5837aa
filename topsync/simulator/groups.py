"""The app's message groups, and which group a message goes to (docs/platform/channel.md 6).

A seller's group comes before the topic's group; a message that has neither goes to `default`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from topsync.simulator.channel.queue import DEFAULT_GROUP
from topsync.simulator.sellers import SimulatedSeller


@dataclass(slots=True)
class Groups:
    """See the module. `default` always exists and cannot be deleted."""

    _names: dict[str, None] = field(default_factory=lambda: {DEFAULT_GROUP: None})
    _of_seller: dict[int, str] = field(default_factory=dict)
    _of_topic: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All groups, in the order in which they were made."""
        return list(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def of(self, seller: SimulatedSeller, topic: str) -> str:
        """The group that a seller's message goes to."""
        return self._of_seller.get(seller.index) or self._of_topic.get(topic, DEFAULT_GROUP)

    def of_seller(self, seller: SimulatedSeller) -> str:
        """The seller's own group."""
        return self._of_seller.get(seller.index, DEFAULT_GROUP)

    def add(self, name: str) -> None:
        """Make a group. Idempotent."""
        self._names[name] = None

    def move(self, name: str, sellers: Iterable[SimulatedSeller]) -> None:
        """Send these sellers' messages to a group from now on."""
        self._of_seller.update((seller.index, name) for seller in sellers)

    def take_out(self, name: str, sellers: Iterable[SimulatedSeller]) -> None:
        """Undo `move`, for the sellers that are in this group."""
        for seller in sellers:
            if self._of_seller.get(seller.index) == name:
                del self._of_seller[seller.index]

    def route(self, name: str, topics: Iterable[str]) -> None:
        """Send messages of these topics to a group from now on."""
        self._of_topic.update((topic, name) for topic in topics)

    def unroute(self, name: str, topics: Iterable[str]) -> None:
        """Undo `route`, for the topics that go to this group."""
        for topic in topics:
            if self._of_topic.get(topic) == name:
                del self._of_topic[topic]

    def delete(self, name: str) -> None:
        """Delete a group, with all its sellers and topics."""
        del self._names[name]
        self._of_seller = {index: group for index, group in self._of_seller.items() if group != name}
        self._of_topic = {topic: group for topic, group in self._of_topic.items() if group != name}
