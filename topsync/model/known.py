"""What we know of an order or refund without asking the platform."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Known:
    """What a table knows of an order or refund."""

    modified: datetime
    fetched_at: datetime
    published: bool
    status: str
