"""How a connection to the message channel stands, for operators and for the coverage ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from topsync.tmc.session import State


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """How the connection stands. Times are the platform's (UTC).

    `at` is when `state` was entered and `reason` why. `connected_at` is when the newest connection was
    accepted; `last_frame_at` is when anything last came in: what was pushed before it has been pushed.
    Counters count since the `Connection` was made; `confirmed` counts confirms written,
    `confirms_dropped` those that found the outbox full.
    """

    state: State
    reason: str
    at: datetime
    connected_at: datetime | None = None
    last_frame_at: datetime | None = None
    received: int = 0
    confirmed: int = 0
    unreadable: int = 0
    released: int = 0
    reconnects: int = 0
    confirms_dropped: int = 0
    unconfirmed_bytes: int = 0
