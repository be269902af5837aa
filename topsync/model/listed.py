"""What a list of the platform shows of an order or a refund, for asking whether it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """An order or a refund as a list of the platform shows it."""

    id: int
    """`tid`, or `refund_id`."""
    modified: datetime | None
    """None: the list names a time that lies ahead, so it only says that there is the order or refund."""
    settled_after: datetime
    """A state with this `modified` is final for us when its fetch began at or after this moment."""
