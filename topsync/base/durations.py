"""Durations, and the moments at which they end, as text for people."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from schemas import platform_time

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
DAY_SECONDS = 86400


def text(seconds: float) -> str:
    """A duration in its two largest units, rounded up: `41 s`, `3 min 5 s`, `8 h 38 min`, `2 d 3 h`."""
    left = max(0, math.ceil(seconds))
    if left < MINUTE_SECONDS:
        return f"{left} s"
    if left < HOUR_SECONDS:
        return _two(left, MINUTE_SECONDS, "min", 1, "s")
    left = _rounded_up(left, MINUTE_SECONDS)
    if left < DAY_SECONDS:
        return _two(left, HOUR_SECONDS, "h", MINUTE_SECONDS, "min")
    return _two(_rounded_up(left, HOUR_SECONDS), DAY_SECONDS, "d", HOUR_SECONDS, "h")


def until(seconds: float) -> str:
    """A duration from now, with the moment at which it ends: this machine's clock, in the platform's zone."""
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    return f"{text(seconds)}, until {platform_time.format(end)} GMT+8"


def _two(left: int, large_seconds: int, large: str, small_seconds: int, small: str) -> str:
    count, rest = divmod(left, large_seconds)
    rest //= small_seconds
    return f"{count} {large} {rest} {small}" if rest else f"{count} {large}"


def _rounded_up(seconds: int, unit_seconds: int) -> int:
    return math.ceil(seconds / unit_seconds) * unit_seconds
