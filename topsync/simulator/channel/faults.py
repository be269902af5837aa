"""The faults of the simulated message channel that last for a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from topsync.simulator.channel.settings import Refusal

_PAST: Final = datetime.min.replace(tzinfo=UTC)
_NO_REFUSAL: Final = Refusal(0, "")


@dataclass(slots=True)
class ChannelFaults:
    """Which faults are on, and until when, in the platform's time."""

    cut_until: datetime = _PAST
    silent_until: datetime = _PAST
    lose_until: datetime = _PAST
    refuse_until: datetime = _PAST
    refusal: Refusal = _NO_REFUSAL
    holds_new: bool = False
    """Whether connections made from now on hang."""

    def is_cut(self, now: datetime) -> bool:
        """Whether TCP connections are turned away."""
        return now < self.cut_until

    def is_silent(self, now: datetime) -> bool:
        """Whether nothing may be sent."""
        return now < self.silent_until

    def is_refusing(self, now: datetime) -> bool:
        """Whether each CONNECT is refused."""
        return now < self.refuse_until

    def takes(self, now: datetime) -> bool:
        """Whether a message that is published now is lost."""
        return now < self.lose_until

    def active(self, now: datetime) -> dict[str, int]:
        """1 for each fault that is on, for the channel's ledger."""
        return {
            "cut": int(self.is_cut(now)),
            "silent": int(self.is_silent(now)),
            "refusing": int(self.is_refusing(now)),
        }
