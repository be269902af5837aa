"""A need: what hints about one order ask for together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schemas.change import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Everything that a batch's hints about one order, or one refund of it, ask for together."""

    tid: int
    seller_id: int
    settled_after: datetime
    """A fetch that began at or after this moment answers all of the hints."""
    proven_after: datetime | None
    """The same of the hints that are no messages; none where all of them are messages."""
    reported_at: datetime | None
    """When the platform published the latest of the messages."""
    modified: datetime | None
    """The newest `modified` that it is known to have reached."""
    source: Source
    """The most urgent source: it decides the priority."""
    hinted_at: datetime | None
    """When the platform first reported it by push; for measuring freshness."""
    received_at: datetime | None
    """When push first had such a message."""
    newest_at: datetime
    """When the latest of the hints was put into the topic."""
    patient_until: datetime | None = None
    """Until when all of the hints may wait for others; none where one of them may not."""
    by_refund_alone: bool = False
    """Only a list of refunds names the order, which may outlive it: orders of more than three
    months are out of reach (docs/platform/gateway.md 3.4)."""
