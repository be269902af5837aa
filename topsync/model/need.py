"""A need: what a batch's hints about an order ask for together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schemas.change import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Everything that a batch's hints about an order, or about a part of it, ask for together."""

    tid: int
    seller_id: int
    settled_after: datetime
    """A fetch that began at or after this moment answers all of the hints."""
    proven_after: datetime | None
    """The same for hints that are not messages; None when there were only messages."""
    reported_at: datetime | None
    """When the platform published the latest of the messages."""
    modified: datetime | None
    """The newest `modified` that it is known to have reached; None when no hint names it."""
    source: Source
    """The most urgent source: it decides the priority."""
    hinted_at: datetime | None
    """When the platform published the first of the messages; to measure freshness."""
    received_at: datetime | None
    """When push received the first of the messages."""
    newest_at: datetime
    """When the latest of the hints was written to the topic."""
    linger_until: datetime | None = None
    """Until when all of the hints may wait for others; None when any of them may not."""
    by_part_alone: bool = False
    """Only a list of parts, e.g. of refunds, names the order. The platform may no longer give it: orders
    older than three months are out of reach (docs/platform/gateway.md 3.4)."""
