"""Whether the writers move at all: what every slice that waits for them has seen, of all sellers. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Pulse:
    """When more was stored, the last time that anybody looked; by any steady clock.

    The writers take what was handed over in turn. So a slice that waits behind another, of its own seller or
    of another, is not standing still.
    """

    _beat_at: float = float("-inf")

    def beat(self, *, at_seconds: float) -> None:
        """Note that more is stored than at an earlier look."""
        self._beat_at = max(self._beat_at, at_seconds)

    def still_seconds(self, *, since: float, at_seconds: float) -> float:
        """For how long nothing was stored, for somebody who waits since then."""
        return at_seconds - max(since, self._beat_at)
