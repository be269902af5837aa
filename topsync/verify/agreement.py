"""One order or refund as platform, table and topic show it, and whether they agree.

Not every difference is a loss. What nobody knows makes no version (`schemas.content`), and what the platform
left out when an order was fetched comes with the order's next change: neither is *stale*.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import orjson

from schemas import content
from schemas.platform_object import PlatformObject
from schemas.refund import Refund
from schemas.trade import Trade
from topsync.store.versions import StoredState


@dataclass(frozen=True, slots=True)
class Shown:
    """What the platform or the table shows of one."""

    key: int
    """Its id."""
    state: StoredState
    unknown: bytes
    """Digest of what nobody knows of it; empty where there is nothing of the kind."""
    value: str = field(repr=False)
    """All of it, as it is on the wire."""


class Agreement(Enum):
    """How far the copies agree with the platform."""

    FULL = "full"
    IN_WHAT_COUNTS = "in what counts"
    """They differ in nothing but what nobody knows, or what the platform leaves out at times."""
    NONE = "none"


def shown(read: Trade | Refund) -> Shown:
    """What is shown, of an object as this release reads it: a stored hash may be an earlier release's."""
    written = read.to_json()
    key = read.tid if isinstance(read, Trade) else read.refund_id
    state = StoredState(read.modified, content.content_hash(type(read), written))
    return Shown(key, state, content.unknown_hash(type(read), written), read.to_wire())


def agreement(
    model: type[PlatformObject], truth: Shown, table: Shown | None, topic: StoredState | None, unknown: bytes
) -> Agreement:
    """Compare one; `topic` and `unknown` are what the topic has of it."""
    if table is None or table.state != topic or table.state.modified != truth.state.modified:
        return Agreement.NONE
    if table.state == truth.state and table.unknown == unknown == truth.unknown:
        return Agreement.FULL
    if content.says_no_more(model, orjson.loads(table.value), orjson.loads(truth.value)):
        return Agreement.IN_WHAT_COUNTS
    return Agreement.NONE


def arrival(
    model: type[PlatformObject],
    shown: Iterable[Shown],
    table: Shown,
    topic: StoredState | None,
    unknown: bytes,
) -> Agreement:
    """Whether the copies have come to one of the states that the platform has shown, or beyond it.

    By its `modified` alone a state is not always known to be beyond another: an order may change twice in one
    second. So all that the platform has shown counts.
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
