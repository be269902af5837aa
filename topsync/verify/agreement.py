"""Compares an order, or a part of it, as platform, table and topic show it.

Not every difference is a loss. A change in unknown fields makes no new version (`schemas.content`), and
fields that the platform left out when an order was fetched come with the order's next change: neither is
*stale*.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

import orjson

from schemas import content
from schemas.platform_object import PlatformObject
from schemas.types import parse_instant
from topsync.store.versions import StoredState

DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class PublishedState:
    """What of a record of the topic is compared."""

    modified: datetime
    digest: bytes
    """See `digest_of`."""


@dataclass(frozen=True, slots=True)
class ShownObject:
    """An order, or a part of it, as the platform or the table shows it."""

    key: int
    """Its id."""
    state: StoredState
    digest: bytes
    """Of all of it, as it came."""
    written: Mapping[str, Any] = field(repr=False)
    """The whole object, as it is on the wire, read."""


class Agreement(Enum):
    """How far the copies agree with the platform."""

    FULL = "full"
    IN_WHAT_COUNTS = "in what counts"
    """They differ only in unknown fields, or in fields that the platform leaves out at times."""
    NONE = "none"


def digest_of(value: object) -> bytes:
    """Digest of JSON, read: the same for the same values, whichever release has written them.

    Table and topic have the same JSON of a version, apart from the order of names.
    """
    return hashlib.blake2b(
        orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=DIGEST_BYTES
    ).digest()


def shown(
    model: type[PlatformObject], key: str, modified: str, written: Mapping[str, Any], digest: bytes
) -> ShownObject:
    """An object as this release writes it, to compare: a stored hash may be an earlier release's.

    `key` and `modified` name its fields with the id and with the time of its last change.
    """
    state = StoredState(parse_instant(written[modified]), content.content_hash(model, written))
    return ShownObject(int(written[key]), state, digest, written)


def agreement(
    model: type[PlatformObject],
    truth: ShownObject,
    table: ShownObject | None,
    topic: PublishedState | None,
) -> Agreement:
    """Compare an order or refund with what table and topic have of it."""
    if table is None or topic is None or table.digest != topic.digest:
        return Agreement.NONE
    if table.state.modified != truth.state.modified:
        return Agreement.NONE
    if table.state == truth.state and (
        content.unknown_hash(model, table.written) == content.unknown_hash(model, truth.written)
    ):
        return Agreement.FULL
    if content.says_no_more(model, table.written, truth.written):
        return Agreement.IN_WHAT_COUNTS
    return Agreement.NONE


def arrival(
    model: type[PlatformObject],
    shown: Iterable[ShownObject],
    table: ShownObject,
    topic: PublishedState | None,
) -> Agreement:
    """Whether the copies have reached any state that the platform has shown, or a later state.

    The `modified` alone does not always show which state is later: an order may change twice in a second. So
    all states that the platform has shown count.
    """
    for truth in shown:
        how = agreement(model, truth, table, topic)
        if how is not Agreement.NONE:
            return how
        if topic is not None and _are_beyond(truth, table, topic):
            return Agreement.FULL
    return Agreement.NONE


def _are_beyond(truth: ShownObject, table: ShownObject, topic: PublishedState) -> bool:
    at = truth.state.modified
    return (table.state.modified > at or table.state == truth.state) and (
        topic.modified > at or topic.digest == truth.digest
    )
