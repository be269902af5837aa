"""An order or refund as the table has it, to be compared with what the platform lists."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CopyState:
    """An order or refund in the table. Two that are equal mean that the row has not moved between them."""

    tid: int
    created: datetime | None
    modified: datetime
    status: str
    revision: int
    is_published: bool
    """Whether the topic has this revision."""
