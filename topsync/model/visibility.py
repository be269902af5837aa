"""How late the platform's lists may be, by the calendar of its sales. Pure; times are aware instants.

Around the opening of a sale lists lag by minutes (docs/platform/gateway.md 6.1 (4, 6), 6.3). A list read
then, or soon afterwards for a span that reaches back into that time, proves less, and pulls begin earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas import platform_time


@dataclass(frozen=True, slots=True)
class Peak:
    """A time in which lists lag."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Allowances:
    """The allowances at a given time."""

    visibility: timedelta
    """How late an order may appear in a list. A time younger than this is never proven."""
    overlap: timedelta
    """How far before the missing span a pull begins."""


@dataclass(frozen=True, slots=True)
class ListAllowances:
    """The allowances by the calendar."""

    usual: Allowances
    at_peaks: Allowances
    """At least as long as the usual allowances."""
    peaks: Sequence[Peak] = ()

    def visibility_allowance(self, asked_at: datetime) -> timedelta:
        """How old a time must be so that a list, asked for at `asked_at`, proves it.

        After a peak it stays long while the peak's last orders may still be missing in lists.
        """
        late = any(peak.start <= asked_at < peak.end + self.at_peaks.visibility for peak in self.peaks)
        return self.at_peaks.visibility if late else self.usual.visibility

    def overlap(self, start: datetime, *, now: datetime) -> timedelta:
        """How far before `start` a pull up to now begins: further if it reaches into a peak."""
        first = start - self.at_peaks.overlap
        touched = any(peak.start <= now and first < peak.end for peak in self.peaks)
        return self.at_peaks.overlap if touched else self.usual.overlap


def parse_peaks(text: str) -> tuple[Peak, ...]:
    """Peaks from `start/end`, comma-separated, each end as `YYYY-MM-DD HH:MM:SS` in the platform's GMT+8.

    Raises:
        ValueError: an entry is not two such times, with the earlier time first.
    """
    peaks = []
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        start, _, end = (part.strip() for part in entry.partition("/"))
        try:
            peak = Peak(platform_time.parse(start), platform_time.parse(end))
        except ValueError:
            raise ValueError("each entry is `YYYY-MM-DD HH:MM:SS/YYYY-MM-DD HH:MM:SS` (GMT+8)") from None
        if peak.start >= peak.end:
            raise ValueError("a peak ends after it begins")
        peaks.append(peak)
    return tuple(peaks)
