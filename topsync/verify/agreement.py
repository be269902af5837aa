"""Compares an order, or a part of it, as platform, table and topic show it.

Not every difference is a loss. A change in unknown fields makes no new version (`schemas.content`), and
fields that the platform left out when an order was fetched come with the order's next change: neither is
*stale*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from schemas import content
from schemas.platform_object import PlatformObject
from schemas.types import parse_instant
from topsync.store.versions import StoredState


@dataclass(frozen=True, slots=True)
class ShownObject:
    """An order, or a part of it, as the platform or the table shows it."""

    key: int
    """Its id."""
    state: StoredState
    unknown: bytes
    """Digest of its unknown fields; empty when it has none."""
    written: Mapping[str, Any] = field(repr=False)
    """The whole object, as it is on the wire, read."""


class Agreement(Enum):
    """How far the copies agree with the platform."""

    FULL = "full"
    IN_WHAT_COUNTS = "in what counts"
    """They differ only in unknown fields, or in fields that the platform leaves out at times."""
    NONE = "none"


def shown(model: type[PlatformObject], key: str, modified: str, written: Mapping[str, Any]) -> ShownObject:
    """An object as this release writes it, to compare: a stored hash may be an earlier release's.

    `key` and `modified` name its fields with the id and with the time of its last change.
    """
    state = StoredState(parse_instant(written[modified]), content.content_hash(model, written))
    return ShownObject(int(written[key]), state, content.unknown_hash(model, written), written)


def agreement(
    model: type[PlatformObject],
    truth: ShownObject,
    table: ShownObject | None,
    topic: StoredState | None,
    unknown: bytes,
) -> Agreement:
    """Compare an order or refund; `topic` and `unknown` are what the topic has of it."""
    if table is None or table.state != topic or table.state.modified != truth.state.modified:
        return Agreement.NONE
    if table.state == truth.state and table.unknown == unknown == truth.unknown:
        return Agreement.FULL
    if content.says_no_more(model, table.written, truth.written):
        return Agreement.IN_WHAT_COUNTS
    return Agreement.NONE


def arrival(
    model: type[PlatformObject],
    shown: Iterable[ShownObject],
    table: ShownObject,
    topic: StoredState | None,
    unknown: bytes,
) -> Agreement:
    """Whether the copies have reached any state that the platform has shown, or a later state.

    The `modified` alone does not always show which state is later: an order may change twice in a second. So
    all states that the platform has shown count.
    """
    for truth in shown:
        how = agreement(model, truth, table, topic, unknown)
        if how is not Agreement.NONE:
            return how
        if _is_beyond(table.state, truth.state) and topic is not None and _is_beyond(topic, truth.state):
            return Agreement.FULL
    return Agreement.NONE


def _is_beyond(copy: StoredState, truth: StoredState) -> bool:
    return copy.modified > truth.modified or copy == truth
