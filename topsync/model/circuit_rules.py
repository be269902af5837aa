"""When circuits open and close (`topsync/budget/circuit.py`). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRules:
    """When circuits open and close."""

    opens_above: float
    """The share of failing calls, 0 to 1."""
    seller_opens_above: float
    """The same for a seller. Much higher: among thousands of sellers with few calls each, some have a few
    failures too many by chance at any time."""
    least_calls: int
    """With fewer calls in the window no circuit opens."""
    least_seller_calls: int
    """The same for a seller, who is called less often."""
    window: timedelta
    """How far back calls count."""
    first_wait: timedelta
    """How long a circuit stays open before probes; it doubles with each probe that fails."""
    longest_wait: timedelta
    probe_calls: int
    """So many calls of the half-open circuit close it, if few enough fail."""
