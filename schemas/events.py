"""Every event type of the contract: its topic, what its headers say, and which schema its value follows.

A type's last part is its version. The value's schema has a version of its own, because the types of one
topic may share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel

from schemas import cloud_events
from schemas.change import Change
from schemas.notification import NOTIFICATIONS, Notification
from schemas.trade import Trade

ORDER_SCHEMA: Final = "taobao.trade.order.v1"
CHANGE_SCHEMA: Final = "taobao.trade.change.v1"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A header `ce_<name>` beyond those that every event has; always text."""

    name: str
    about: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event."""

    type: str
    topic: str
    """The topic's name in the registry (`topsync.stream.topics.Registry`)."""
    about: str
    schema: str | None
    """The schema of the value, one of `SCHEMAS`; None where the value is not ours to describe."""
    attributes: tuple[Attribute, ...] = field(default=())
    content_type: str = "application/json"


SELLER: Final = Attribute("sellerid", "The platform's user id of the seller.")

ORDER_ATTRIBUTES: Final = (
    SELLER,
    Attribute("revision", "Counts the order's versions; never falls. With the tid, it is the event's id."),
    Attribute("status", "The order's `status`."),
    Attribute("fetchedat", "The state is not older than this."),
    Attribute("publishedat", "When it was handed to Kafka, by the platform's clock."),
    Attribute("hintedat", "When the platform told of the change, where it was pushed.", required=False),
)

ORDER_EVENTS: Final = (
    EventType(
        cloud_events.ORDER_TYPE, "orders", "A new version of an order, whole.", ORDER_SCHEMA, ORDER_ATTRIBUTES
    ),
)


def _notification(model: type[Notification]) -> EventType:
    return EventType(model.event_type, "notifications", (model.__doc__ or "").strip(), model.event_type)


EVENTS: Final = (
    *ORDER_EVENTS,
    *map(_notification, NOTIFICATIONS),
    EventType(
        cloud_events.CHANGE_TYPE, "changes", "An order may have changed; it is then fetched.", CHANGE_SCHEMA
    ),
    EventType(
        cloud_events.SNAPSHOT_TYPE,
        "snapshots",
        "A whole order of the bulk export, in the platform's own form; not older than its `time`.",
        None,
        (SELLER, Attribute("reason", "The export that it comes from.")),
    ),
    EventType(
        cloud_events.DEAD_LETTER_TYPE,
        "dead_letters",
        "What could not be read or done: the original bytes. The original's headers are there as well, their "
        "names prefixed with `original_`.",
        None,
        (Attribute("reason", "A short fixed word."), Attribute("detail", "Explains; nothing personal.")),
        content_type="application/octet-stream",
    ),
)
"""All of them, those for subscribers first."""

SCHEMAS: Final[Mapping[str, type[BaseModel]]] = {
    ORDER_SCHEMA: Trade,
    **{model.event_type: model for model in NOTIFICATIONS},
    CHANGE_SCHEMA: Change,
}
"""The values' models, by the name and version of their schema."""
