"""How many days of a list by change are counted with one call. Pure.

How long a window of refunds may be is not documented (docs/platform/gateway.md 3.10), so it is tried: a
refusal costs a call, and days that are counted one by one cost ninety for each seller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from bootstrap.cutting import DAY


@dataclass(frozen=True, slots=True)
class DaySpan:
    """Days in a row, both included."""

    first: date
    last: date

    @property
    def number(self) -> int:
        """How many days."""
        return (self.last - self.first).days + 1

    def halves(self) -> Iterator[DaySpan]:
        """Two spans, the first at least as long; only where there are two days."""
        middle = self.first + DAY * ((self.number - 1) // 2)
        yield DaySpan(self.first, middle)
        yield DaySpan(middle + DAY, self.last)


@dataclass(slots=True)
class LongestCount:
    """The most days that are counted at once, as far as this process has learnt; one for all its sellers."""

    days: int | None = None
    """None: nothing has been refused."""

    def allows(self, span: DaySpan) -> bool:
        """Whether a span may be asked for at once. A single day always may."""
        return span.number == 1 or self.days is None or span.number <= self.days

    def refused(self, span: DaySpan) -> None:
        """The platform refuses so many days at once."""
        shorter = (span.number + 1) // 2
        self.days = shorter if self.days is None else min(self.days, shorter)
