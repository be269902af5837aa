"""The priority of a call to the platform: which calls go first when they are scarce."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from schemas.change import Source


class Priority(IntEnum):
    """The smallest value goes first."""

    LIVE = 0
    GAP = 1
    OPERATOR = 2
    BOOTSTRAP = 3
    SWEEP = 4

    @property
    def label(self) -> str:
        """The name in metrics and logs."""
        return self.name.lower()


PRIORITY_OF: Final = {
    Source.PUSH: Priority.LIVE,
    Source.GAP: Priority.GAP,
    Source.OPERATOR: Priority.OPERATOR,
    Source.BOOTSTRAP: Priority.BOOTSTRAP,
    Source.SWEEP: Priority.SWEEP,
}
"""The priority with which a change's order is fetched, by who learnt of it."""
