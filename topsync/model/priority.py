"""Which lane of the call budget a change's fetch travels in."""

from __future__ import annotations

from typing import Final

from schemas.change import Source
from topsync.budget.leases import Lane

LANE_OF: Final = {
    Source.PUSH: Lane.LIVE,
    Source.GAP: Lane.GAP,
    Source.OPERATOR: Lane.OPERATOR,
    Source.BOOTSTRAP: Lane.BOOTSTRAP,
    Source.SWEEP: Lane.SWEEP,
}
