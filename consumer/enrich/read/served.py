"""Whether an outage is a single seller's or the platform's. No I/O."""

from __future__ import annotations

import time
from dataclasses import dataclass

SERVED_LATELY_SECONDS = 10.0
"""While an order of any seller was fetched so recently, an order that is not answered is postponed alone."""


@dataclass(slots=True)
class ServedLately:
    """When the platform last answered for any seller; shared by all partitions of a process."""

    _served_at: float = float("-inf")

    def note(self) -> None:
        """Note that the platform answered for a seller just now."""
        self._served_at = time.monotonic()

    def nobody(self) -> bool:
        """Whether it answered for no seller for a while: then the platform is the cause, and not a seller."""
        return time.monotonic() - self._served_at > SERVED_LATELY_SECONDS
