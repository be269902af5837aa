"""The platform's times as text: `YYYY-MM-DD HH:MM:SS` in GMT+8, in whole seconds.

Source: docs/platform/gateway.md 1.8. Inside topsync every instant is an aware UTC `datetime`; text in the
platform's zone exists only on the wire.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

AHEAD_OF_UTC = timedelta(hours=8)

CHINA = timezone(AHEAD_OF_UTC, "GMT+8")
"""Fixed offset: China has no daylight saving, and a zone database need not be installed."""

RESOLUTION = timedelta(seconds=1)
"""Two changes of an order within a second have the same `modified`: a state is final for its second only when
it was read after that second had passed.
"""

_CHARACTERS = len("YYYY-MM-DD HH:MM:SS")


def parse(text: str) -> datetime:
    """The UTC instant of a platform time such as `2025-11-20 10:30:00`.

    Raises:
        ValueError: the text is not in that format.
    """
    # fromisoformat is much faster than strptime; the length check excludes other forms that it accepts.
    if len(text) != _CHARACTERS or text[10] != " ":
        raise ValueError(f"not a platform time (YYYY-MM-DD HH:MM:SS): {text!r}")
    try:
        # Read it as UTC and shift it, which is faster than converting zones.
        return datetime.fromisoformat(f"{text}+00:00") - AHEAD_OF_UTC
    except OverflowError as error:
        raise ValueError("before the year 1") from error


def format(instant: datetime) -> str:  # noqa: A001 -- read as platform_time.format(...)
    """The platform's text for an aware instant; fractions of a second are cut off, never rounded up."""
    # Each signed call needs it: isoformat is several times faster than strftime.
    return instant.astimezone(CHINA).isoformat(" ", "seconds")[:_CHARACTERS]


def day_of(instant: datetime) -> date:
    """The platform's calendar day that an aware instant falls on."""
    return instant.astimezone(CHINA).date()


def start_of(day: date) -> datetime:
    """00:00:00 of a platform day, as a UTC instant."""
    return datetime(day.year, day.month, day.day, tzinfo=CHINA).astimezone(UTC)


def floor_to_second(instant: datetime) -> datetime:
    """The instant with its fraction cut off: the platform cannot express more."""
    return instant.replace(microsecond=0)
