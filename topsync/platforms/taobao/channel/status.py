"""The status of a connection to the message channel, for operators and for the coverage ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from topsync.platforms.taobao.channel.endings import Ending
from topsync.platforms.taobao.channel.session import ChannelState


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """The status of a connection. Times are the platform's (UTC).

    `at` is when `state` was entered and `reason` why. `connected_at` is when the newest connection was
    accepted; `last_frame_at` is when something last came in that proves something. `ending` is how the last
    connection ended; `None` before the first end. Counters count since the `Connection` was made:
    `confirmed` confirms written, `confirms_dropped` confirms that found the outbox full, `foreign` frames
    with a token that was never given to this client.

    `last_proof_at` is the last moment at which the newest connection provably worked; `None` before the
    first. It is the last frame, or, if that is later, the last write that the peer's TCP has acknowledged:
    for a quiet shop the platform sends nothing else (docs/platform/channel.md 1.4, 5.2). For a connection
    given up as silent, acknowledgements prove nothing: there only frames count. From the first foreign frame
    on, nothing proves anything: we do not know what else is lost.
    """

    state: ChannelState
    reason: str
    at: datetime
    connected_at: datetime | None = None
    last_frame_at: datetime | None = None
    last_proof_at: datetime | None = None
    ending: Ending | None = None
    received: int = 0
    confirmed: int = 0
    unreadable: int = 0
    released: int = 0
    reconnects: int = 0
    confirms_dropped: int = 0
    foreign: int = 0
    unconfirmed_bytes: int = 0
