"""Every event type of the contract: its topic, what its headers say, and which schema its value follows.

A type's last part is its version. The value's schema has a version of its own, because the types of the same
topic may share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Generic

from pydantic import BaseModel

from schemas import cloud_events
from schemas.certificate import Certificate
from schemas.change import Change
from schemas.delta import T, TransitionWord
from schemas.erasure import Erasure
from schemas.notification import NOTIFICATIONS, Notification
from schemas.refund import Refund
from schemas.refund_transitions import RefundTransition
from schemas.signal import SIGNALS
from schemas.trade import Trade
from schemas.transitions import Transition

ORDER_SCHEMA: Final = "taobao.trade.order.v1"
REFUND_SCHEMA: Final = "taobao.trade.refund.v1"
CHANGE_SCHEMA: Final = "taobao.trade.change.v1"
ERASURE_SCHEMA: Final = "taobao.trade.erasure.v1"
CERTIFICATE_SCHEMA: Final = "taobao.ops.certificate.v1"
"""In no topic: `topsync certificate show --json` prints it."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A header `ce_<name>` beyond those that every event has; always text."""

    name: str
    about: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class EventType:
    """A type of event."""

    type: str
    topic: str
    """The topic's name in the registry (`topsync.stream.topics.Registry`)."""
    about: str
    schema: str | None
    """The schema of the value, from `SCHEMAS`; None where the value is not ours to describe."""
    attributes: tuple[Attribute, ...] = field(default=())
    content_type: str = "application/json"
    transition: TransitionWord | None = None
    """Of a new version: what has happened."""


@dataclass(frozen=True, slots=True)
class VersionEvents(Generic[T]):
    """How the versions of a kind are published: each event has the name of what has happened last."""

    noun: str
    """The word for a thing of the kind, as the types have it."""
    topic: str
    """The topic's name in the registry."""
    schema: str
    """The schema of the value."""
    words: type[T]
    """All that may happen, each with what it means for whoever acts on it."""
    attributes: tuple[Attribute, ...]
    is_part: bool
    """It belongs to an order, which the headers name (`tid`, and `oid` where it is of a line)."""

    def type_of(self, transition: T) -> str:
        """The CloudEvents type of a new version, by how far it has come."""
        return f"taobao.trade.{self.noun}.{transition}.v1"

    @property
    def erased(self) -> str:
        """The type of the tombstone."""
        return f"taobao.trade.{self.noun}.erased.v1"

    def types(self) -> tuple[EventType, ...]:
        """Every type of a new version."""
        return tuple(
            EventType(
                self.type_of(word), self.topic, word.about, self.schema, self.attributes, transition=word
            )
            for word in self.words
        )

    def tombstone(self) -> EventType:
        """The type that ends a thing of the kind."""
        return EventType(
            self.erased,
            self.topic,
            f"A tombstone, so there is no value: the {self.noun} was erased at an operator's request, and "
            "whoever keeps something of it erases that.",
            None,
            (
                SELLER,
                Attribute(
                    "revision",
                    f"One above the {self.noun}'s last version; with the key, it is the event's id.",
                ),
                Attribute("publishedat", "When it was handed to Kafka, by the platform's clock."),
            ),
        )


KEYS: Final[Mapping[str, str]] = {
    "orders": "tid",
    "refunds": "refund_id",
    "notifications": "subject",
    "signals": "replay",
    "changes": "tid",
    "snapshots": "tid",
    "dead_letters": "as received",
}
"""By topic, its records' key: records with the same key are in order, and compaction keeps the newest."""

SELLER: Final = Attribute("sellerid", "The platform's user id of the seller.")

FOUND_BY: Final = Attribute("foundby", "How it was found: `push`, `gap`, `sweep`, `operator` or `bootstrap`.")


def _attributes(thing: str, id_: str, *own: Attribute, lines: str = "") -> tuple[Attribute, ...]:
    """The attributes of a kind's events: `own` are those of this kind alone."""
    return (
        SELLER,
        *own,
        Attribute(
            "revision", f"Counts the {thing}'s versions; never falls. With the {id_}, it is the event's id."
        ),
        Attribute("status", f"The {thing}'s `status`."),
        Attribute("fetchedat", "The state is not older than this."),
        Attribute("publishedat", "When it was handed to Kafka, by the platform's clock."),
        Attribute(
            "transitions",
            f"All that has happened to the {thing} since the version before, comma-separated; last what says "
            "how far it has come. The type has only the last of them: filter by this.",
        ),
        Attribute("statusfrom", "The `status` of the version before, where there was one.", required=False),
        Attribute(
            "changedfields",
            f"The fields that differ from the version before, comma-separated{lines}. Not there where there "
            "was none before.",
            required=False,
        ),
        FOUND_BY,
        Attribute("hintedat", "When the platform sent a message about the change.", required=False),
    )


ORDER_ATTRIBUTES: Final = _attributes("order", "tid", lines="; those of lines as `orders.<name>`")

REFUND_ATTRIBUTES: Final = _attributes(
    "refund",
    "refund's id",
    Attribute("tid", "The order that it is a refund of: the key of the topic `orders`."),
    Attribute("oid", "The line of the order."),
)

ORDERS: Final = VersionEvents("order", "orders", ORDER_SCHEMA, Transition, ORDER_ATTRIBUTES, is_part=False)
REFUNDS: Final = VersionEvents(
    "refund", "refunds", REFUND_SCHEMA, RefundTransition, REFUND_ATTRIBUTES, is_part=True
)


def _notification(model: type[Notification]) -> EventType:
    return EventType(model.event_type, "notifications", (model.__doc__ or "").strip(), model.event_type)


EVENTS: Final = (
    *ORDERS.types(),
    ORDERS.tombstone(),
    REFUNDS.tombstone(),
    *REFUNDS.types(),
    *map(_notification, NOTIFICATIONS),
    *(
        EventType(model.event_type, "signals", (model.__doc__ or "").strip(), model.event_type)
        for model in SIGNALS
    ),
    EventType(
        cloud_events.CHANGE_TYPE, "changes", "An order may have changed; it is then fetched.", CHANGE_SCHEMA
    ),
    EventType(
        cloud_events.ERASURE_TYPE,
        "changes",
        "An order of an erased seller is to be taken out of table and topic.",
        ERASURE_SCHEMA,
    ),
    EventType(
        cloud_events.SNAPSHOT_TYPE,
        "snapshots",
        "A whole order of the bulk export, or a part of one, not older than its `time`; in the platform's "
        "own form, or, with `readby`, as in `orders` or `refunds`.",
        None,
        (
            SELLER,
            Attribute("reason", "The export that it comes from."),
            replace(FOUND_BY, required=False),  # old records lack it
            Attribute("kind", "Of a part of an order: `refund`. An order has none.", required=False),
            Attribute(
                "readby",
                "By which rules it was read already; a release that has others reads it again.",
                required=False,
            ),
            Attribute("contenthash", "With `readby`: the digest of its content, in hex.", required=False),
            Attribute(
                "head", "With `readby`: the fields that are needed to store it, as JSON.", required=False
            ),
            Attribute(
                "happened",
                "With `readby`: what has happened to it so far, as in `transitions` of a first version.",
                required=False,
            ),
            Attribute("odd", "With `readby`: it may have fields that nobody asked for.", required=False),
        ),
    ),
    EventType(
        cloud_events.DEAD_LETTER_TYPE,
        "dead_letters",
        "What could not be read or done: the original bytes. The original's headers are there as well, their "
        "names prefixed with `original_`.",
        None,
        (
            Attribute("reason", "A short fixed word."),
            Attribute("detail", "Explains; nothing personal."),
            Attribute(
                "sellerid", "The platform's user id of the seller, where that is known.", required=False
            ),
        ),
        content_type="application/octet-stream",
    ),
)
"""All event types, the types for subscribers first."""

SCHEMAS: Final[Mapping[str, type[BaseModel]]] = {
    ORDER_SCHEMA: Trade,
    REFUND_SCHEMA: Refund,
    **{model.event_type: model for model in NOTIFICATIONS},
    **{model.event_type: model for model in SIGNALS},
    CHANGE_SCHEMA: Change,
    ERASURE_SCHEMA: Erasure,
    CERTIFICATE_SCHEMA: Certificate,
}
"""The values' models, by the name and version of their schema."""
