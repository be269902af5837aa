"""An order or a refund in a list of the platform, to ask whether its listed state is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """An order or a refund as a list of the platform shows it."""

    id: int
    """`tid`, or `refund_id`."""
    modified: datetime | None
    """None when the listed time lies in the future: then the list only shows that the order or refund
    exists."""
    settled_after: datetime
    """A state with this `modified` is final for us when its fetch began at or after this moment."""
