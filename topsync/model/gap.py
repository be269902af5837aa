"""A gap: a span in which push cannot be trusted, until pulls have proven it complete."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Gap:
    """An open gap of a seller. Times are platform time."""

    id: int
    seller_id: int
    began: datetime
    """The last proof before the loss, without the overlap."""
    ended: datetime | None
    """The time of the reconnection; None while push is away."""
    cause: str
    opened_at: datetime
    pulled_at: datetime | None
