"""The hours of the night in which the comparison with the platform works. Pure; hours are GMT+8."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from schemas import platform_time

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Night:
    """One night's hours of work."""

    date: date
    """The platform day on which the hours begin; it names the night."""
    ends_at: datetime
    """Exclusive."""


@dataclass(frozen=True, slots=True)
class NightHours:
    """The hours of each night, which may go over midnight."""

    start: time
    end: time

    def night(self, now: datetime) -> Night | None:
        """The night that `now` lies in; None outside the hours. `now` is an aware instant."""
        today = platform_time.day_of(now)
        for day in (today, today - DAY):
            begins_at = _instant(day, self.start)
            ends_at = _instant(day if self.start < self.end else day + DAY, self.end)
            if begins_at <= now < ends_at:
                return Night(day, ends_at)
        return None


def parse_hours(text: str) -> NightHours | None:
    """Hours from `HH:MM-HH:MM`, in the platform's GMT+8; None from an empty text.

    Raises:
        ValueError: the text is not two different times of day.
    """
    if not text.strip():
        return None
    first, _, last = (part.strip() for part in text.partition("-"))
    try:
        hours = NightHours(time.fromisoformat(first), time.fromisoformat(last))
    except ValueError:
        raise ValueError("hours are `HH:MM-HH:MM` (GMT+8), or empty") from None
    if hours.start == hours.end or hours.start.tzinfo or hours.end.tzinfo:
        raise ValueError("hours begin and end at different times of day, without a zone (GMT+8)")
    return hours


def _instant(day: date, at: time) -> datetime:
    return datetime.combine(day, at, platform_time.CHINA)
