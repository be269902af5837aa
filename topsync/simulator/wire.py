"""How values look on the wire: money, time, ids (docs/platform/gateway.md 5.1).

Inside the simulator, a time is a whole number of seconds since the epoch, and money a whole number of cents:
both are exact and quick to compare, and a million orders are written from them.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import TypeAlias

from schemas import platform_time

JsonObject: TypeAlias = dict[str, object]
"""A JSON object before it is written."""

_ID_KEYS = ("tid", "oid", "id")

_KEPT_AMOUNTS = 1 << 14
_KEPT_DAYS = 1 << 10
DAY_SECONDS = 86400
_ZONE_SECONDS = 8 * 3600
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MINUTES = tuple(f" {minute // 60:02d}:{minute % 60:02d}:" for minute in range(DAY_SECONDS // 60))
_SECONDS = tuple(f"{second:02d}" for second in range(60))


@lru_cache(maxsize=_KEPT_AMOUNTS)
def money(cents: int) -> str:
    """Yuan with two decimals: `18600` is `"186.00"`."""
    sign = "-" if cents < 0 else ""
    cents = abs(cents)
    return f"{sign}{cents // 100}.{cents % 100:02d}"


def time_text(second: int) -> str:
    """The platform's GMT+8 text of an instant."""
    # Not platform_time.format: this runs several times per order, and that takes ten times as long.
    day, rest = divmod(second + _ZONE_SECONDS, DAY_SECONDS)
    minute, rest = divmod(rest, 60)
    return _day_text(day) + _MINUTES[minute] + _SECONDS[rest]


@lru_cache(maxsize=_KEPT_DAYS)
def _day_text(day: int) -> str:
    return date.fromordinal(_EPOCH_DAY + day).isoformat()


def start_of_day(second: int) -> int:
    """00:00:00 of the platform's day that an instant falls on."""
    return second - (second + _ZONE_SECONDS) % DAY_SECONDS


def second_of(text: str) -> int:
    """The instant of a platform time text.

    Raises:
        ValueError: the text is not `YYYY-MM-DD HH:MM:SS`.
    """
    return int(platform_time.parse(text).timestamp())


def with_text_ids(value: object) -> object:
    """A copy in which trade and order numbers are strings, as captures since 2018 show them."""
    if isinstance(value, dict):
        return {
            key: str(item) if key in _ID_KEYS and isinstance(item, int) else with_text_ids(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [with_text_ids(item) for item in value]
    return value
