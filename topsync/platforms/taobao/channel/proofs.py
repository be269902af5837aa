"""When a connection last provably worked. A gap begins there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from topsync.platforms.taobao.channel.endings import Cause, Ending


@dataclass(slots=True)
class Proofs:
    """When the newest connection last provably worked. Times are the platform's."""

    connected_at: datetime | None = None
    frame_at: datetime | None = None
    written_at: datetime | None = None
    acknowledged_at: datetime | None = None
    in_doubt: bool = False
    """Set when something shows that messages get lost: then nothing is proven any more."""

    def connected(self, at: datetime) -> None:
        """Note a new connection: proofs of the former connection say nothing about it."""
        self.connected_at, self.written_at, self.acknowledged_at = at, None, None
        self.in_doubt = False

    def frame(self, at: datetime) -> None:
        """Note that something has come in."""
        if not self.in_doubt:
            self.frame_at = at

    def acknowledged(self) -> None:
        """Note that everything written so far has been acknowledged."""
        if not self.in_doubt:
            self.acknowledged_at = self.written_at

    def last(self, ending: Ending | None) -> datetime | None:
        """The last proof, given how the connection ended, if it did (see `ConnectionStatus`)."""
        if self.connected_at is None:
            return None
        known = [self.connected_at]
        if self.frame_at is not None:
            known.append(self.frame_at)
        if self.acknowledged_at is not None and (ending is None or ending.cause is not Cause.SILENT):
            known.append(self.acknowledged_at)
        return max(known)
