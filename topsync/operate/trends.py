"""Whether what waits gets less: two looks a moment apart, compared. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from topsync.base import durations

STEADY_SHARE: Final = 0.001
"""A change by less than this part in a second is none."""


@dataclass(frozen=True, slots=True)
class Marks:
    """How much waited at one look, by name, and when that was, by a steady clock."""

    counts: Mapping[str, int]
    at_seconds: float


@dataclass(frozen=True, slots=True)
class Trend:
    """How much waits, and how fast that changes."""

    count: int
    per_second: float | None
    """Below zero where it gets less; None where there was only one look."""

    @property
    def is_growing(self) -> bool:
        """Whether more and more waits."""
        return self.per_second is not None and self.per_second > self._least

    @property
    def is_falling(self) -> bool:
        """Whether less and less waits."""
        return self.per_second is not None and self.per_second < -self._least

    @property
    def _least(self) -> float:
        return max(0.01, STEADY_SHARE * self.count)

    @property
    def through_in_seconds(self) -> float | None:
        """When nothing will be left, if it goes on like this; None where it does not get less."""
        if not self.is_falling or self.per_second is None:
            return None
        return self.count / -self.per_second

    @property
    def words(self) -> str:
        """How it changes, for people; empty where nothing waits or nothing is known."""
        if self.per_second is None or (not self.count and not self.is_falling):
            return ""
        if self.is_growing:
            return f"growing by {_rate(self.per_second)}"
        if (seconds := self.through_in_seconds) is not None:
            left = f", through in {durations.text(seconds)}" if self.count else ""
            return f"falling by {_rate(-self.per_second)}{left}"
        return "steady"


def compare(before: Marks | None, after: Marks) -> dict[str, Trend]:
    """What waits at the second look, and how it has changed since the first."""
    if before is None or after.at_seconds <= before.at_seconds:
        return {name: Trend(count, None) for name, count in after.counts.items()}
    seconds = after.at_seconds - before.at_seconds
    return {
        name: Trend(count, (count - before.counts[name]) / seconds if name in before.counts else None)
        for name, count in after.counts.items()
    }


def _rate(per_second: float) -> str:
    if per_second >= 10:
        return f"{per_second:.0f} a second"
    return f"{per_second:.1f} a second" if per_second >= 1 else f"{per_second * 60:.0f} a minute"
